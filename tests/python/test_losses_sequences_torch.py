# Contract: losses over whole answers, policies, bags and batches equal their definitions over dense logits in value and gradient; weights and
# projections have the properties their papers give them; bad arguments are named. Oracles: the definitions written again over dense float64
# logits with torch's autograd, the published example numbers, and invariants.
from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from slipstick import losses  # noqa: E402

pytestmark = pytest.mark.torch

SEQUENCES, TOKENS, WIDTH, CLASSES = 4, 6, 5, 9
IGNORED = -100


def head(seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(SEQUENCES, TOKENS, WIDTH, generator=generator, dtype=torch.float64)
    weight = torch.randn(CLASSES, WIDTH, generator=generator, dtype=torch.float64)
    bias = torch.randn(CLASSES, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, CLASSES, (SEQUENCES, TOKENS), generator=generator)
    targets[0, :2] = IGNORED
    targets[1, 3:] = IGNORED
    return [tensor.requires_grad_() for tensor in (hidden, weight, bias)], targets


def token_log_prob(hidden, weight, bias, targets):
    log_p = torch.log_softmax(hidden @ weight.T + bias, -1)
    return log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0]


def entropy(hidden, weight, bias):
    p = torch.softmax(hidden @ weight.T + bias, -1)
    return -(p * p.log()).sum(-1)


def assert_same(ours, theirs, inputs, tolerance=1e-9):
    along = torch.randn(ours.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for a, b in [
        (ours, theirs),
        *zip(torch.autograd.grad((ours * along).sum(), inputs), torch.autograd.grad((theirs * along).sum(), inputs)),
    ]:
        assert (a - b).detach().abs().max() <= tolerance * b.detach().abs().max().clamp(min=1)


@pytest.mark.parametrize("average", [False, True])
def test_sequence_log_prob_is_the_sum_or_mean_of_its_tokens(average):
    inputs, targets = head()
    ours = losses.sequence_log_prob(*inputs[:2], targets, bias=inputs[2], average=average)
    dense = token_log_prob(*inputs, targets) * (targets != IGNORED)
    theirs = torch.stack([row.sum() / (int((t != IGNORED).sum()) if average else 1) for row, t in zip(dense, targets)])
    assert_same(ours, theirs, inputs)


def test_sequence_without_tokens_has_log_prob_zero_and_no_average():
    inputs, targets = head()
    targets[2] = IGNORED
    assert losses.sequence_log_prob(*inputs[:2], targets)[2] == 0
    assert losses.sequence_log_prob(*inputs[:2], targets, average=True)[2].isnan()


def pairs():
    generator = torch.Generator().manual_seed(1)
    return [(-5 * torch.rand(7, generator=generator, dtype=torch.float64)).requires_grad_() for _ in range(4)]


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def odds(log_p):
    return log_p.exp() / (1 - log_p.exp())


# name of the loss: how many tensors it takes, its arguments, the definition with w the chosen and x the rejected answer
PREFERENCES = {
    "dpo_loss": (4, {"beta": 0.3}, lambda w, x, rw, rx, beta: -torch.log(sigmoid(beta * torch.log((w - rw).exp() / (x - rx).exp())))),
    "orpo_loss": (2, {"beta": 0.3}, lambda w, x, beta: -w - beta * torch.log(sigmoid(torch.log(odds(w) / odds(x))))),
    "simpo_loss": (2, {"beta": 1.5, "gamma": 0.4}, lambda w, x, beta, gamma: -torch.log(sigmoid(beta * w - beta * x - gamma))),
    "npo_loss": (2, {"beta": 0.2}, lambda p, r, beta: 2 / beta * torch.log(1 + (p.exp() / r.exp()) ** beta)),
    "simnpo_loss": (1, {"beta": 2.0, "gamma": 0.3}, lambda p, beta, gamma: -2 / beta * torch.log(sigmoid(-beta * p - gamma))),
    "dco_loss": (1, {"tries": 5}, lambda p, tries: -torch.log(1 - (1 - p.exp()) ** tries)),
}


@pytest.mark.parametrize("name", PREFERENCES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_preference_loss_equals_its_definition(name, reduction):
    count, arguments, formula = PREFERENCES[name]
    inputs = pairs()[:count]
    dense = formula(*inputs, **arguments)
    theirs = dense if reduction == "none" else getattr(dense, reduction)()
    assert_same(getattr(losses, name)(*inputs, reduction=reduction, **arguments), theirs, inputs)


def test_kto_loss_equals_its_definition_and_keeps_its_baseline_without_gradient():
    policy, reference = pairs()[:2]
    desirable = torch.tensor([True, False, True, True, False, False, True])
    baseline = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    ours = losses.kto_loss(policy, reference, desirable, baseline, beta=0.4, desirable_weight=1.3, undesirable_weight=0.8, reduction="none")
    ratio = policy - reference
    value = torch.where(desirable, 1.3 * sigmoid(0.4 * (ratio - 0.7)), 0.8 * sigmoid(0.4 * (0.7 - ratio)))
    assert_same(ours, 0.8 + 0.5 * desirable.double() - value, [policy, reference])
    again = losses.kto_loss(policy, reference, desirable, baseline, beta=0.4)
    assert torch.autograd.grad(again, baseline, allow_unused=True)[0] is None
    negative = losses.kto_loss(policy, reference, desirable, -3.0, beta=0.4)
    assert negative == losses.kto_loss(policy, reference, desirable, 0.0, beta=0.4)


@pytest.mark.parametrize(("ratio", "value", "weight"), [(0.0, 13.862944, 1.0), (-10.0, 6.265234, 0.537883), (10.0, 26.265234, 1.462117)])
def test_known_values_of_npo(ratio, value, weight):
    log_prob = torch.tensor([ratio - 20], dtype=torch.float64, requires_grad=True)
    loss = losses.npo_loss(log_prob, torch.tensor([-20.0], dtype=torch.float64), beta=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=6e-7)
    assert log_prob.grad.item() == pytest.approx(weight, abs=6e-7)


@pytest.mark.parametrize(("gamma", "value"), [(0.0, 0.063112), (0.5, 0.101542), (2.5 * 0.5, 0.201543)])
def test_known_values_of_simnpo_in_the_paper_and_in_the_code(gamma, value):
    assert float(losses.simnpo_loss(torch.tensor([-1.0], dtype=torch.float64), beta=2.5, gamma=gamma)) == pytest.approx(value, abs=6e-7)


@pytest.mark.parametrize(
    ("probability", "tries", "value", "factor"),
    [
        (0.5, 1, 0.693147, 1.0),
        (0.2, 4, 0.526955, 0.693767),
        (0.1, 16, 0.204938, 0.404353),
        (0.01, 256, 0.079384, 0.213644),
        (1e-6, 256, 8.270461, 0.999873),
    ],
)
def test_known_values_of_dco(probability, tries, value, factor):
    log_prob = torch.tensor([math.log(probability)], dtype=torch.float64, requires_grad=True)
    loss = losses.dco_loss(log_prob, tries=tries)
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=6e-7)
    assert log_prob.grad.item() == pytest.approx(-factor, abs=6e-7)


def test_dco_is_exact_from_certain_to_hopeless_answers():
    mpmath = pytest.importorskip("mpmath")
    log_probs = [-1e-15, -1e-9, -1e-3, -1.0, -10.0, -17.9, -18.1, -24.0, -30.0, -100.0, -5000.0]
    for tries in (2, 64, 1000):
        log_prob = torch.tensor(log_probs, dtype=torch.float64, requires_grad=True)
        loss = losses.dco_loss(log_prob, tries=tries, reduction="none")
        (gradient,) = torch.autograd.grad(loss.sum(), log_prob)
        with mpmath.workdps(2200):
            for u, ours, slope in zip(log_probs, loss.tolist(), gradient.tolist()):
                p = mpmath.exp(mpmath.mpf(u))
                hit = 1 - (1 - p) ** tries
                assert ours == pytest.approx(float(-mpmath.log(hit)), rel=1e-12, abs=1e-300)
                assert slope == pytest.approx(float(-tries * (1 - p) ** (tries - 1) * p / hit), rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("name", [*PREFERENCES, "kto_loss"])
def test_bad_arguments_of_preference_losses_are_named(name):
    tensors = pairs()
    count = PREFERENCES.get(name, (2,))[0]
    extra = {"dco_loss": {"tries": 2}, "kto_loss": {"desirable": torch.ones(7, dtype=torch.bool), "baseline": 0.0}}.get(name, {})
    loss = getattr(losses, name)
    with pytest.raises(ValueError, match=rf"^{name}: reduction is 'all'; expected one of 'mean', 'sum', 'none'$"):
        loss(*tensors[:count], reduction="all", **extra)
    if name == "dco_loss":
        with pytest.raises(ValueError, match=r"^dco_loss: tries is 0; expected a whole number of at least 1$"):
            loss(tensors[0], tries=0)
        return
    with pytest.raises(ValueError, match=rf"^{name}: beta is -1.0; expected a positive number$"):
        loss(*tensors[:count], beta=-1.0, **extra)
    if count > 1:
        with pytest.raises(ValueError, match=rf"^{name}: \w+ has shape \(3,\); expected that of the first argument, \(7,\)$"):
            loss(*tensors[: count - 1], tensors[3][:3], **extra)
    if name == "kto_loss":
        with pytest.raises(TypeError, match=r"^kto_loss: desirable is of int64; expected bool$"):
            loss(*tensors[:2], torch.ones(7, dtype=torch.int64), 0.0)
        with pytest.raises(ValueError, match=r"^kto_loss: baseline has shape \(2,\); expected a number$"):
            loss(*tensors[:2], extra["desirable"], torch.zeros(2))


def policy_by_definition(inputs, targets, advantages, old, reference, low, high, kl, bonus, reduction):
    u = token_log_prob(*inputs, targets)
    gain = advantages if advantages.ndim == 2 else advantages[:, None].expand(u.shape)
    old = u.detach() if old is None else old
    total, count, per_sequence, tokens = 0.0, 0, [], torch.zeros_like(u)
    for n in range(SEQUENCES):
        of_sequence = []
        for t in range(TOKENS):
            if targets[n, t] == IGNORED:
                continue
            ratio = (u[n, t] - old[n, t]).exp()
            clipped = ratio if 1 - low <= ratio.item() <= 1 + high else min(max(ratio.item(), 1 - low), 1 + high)
            a, b = ratio * gain[n, t], clipped * gain[n, t]
            loss = -(a if a.item() < b.item() else b)
            if kl:
                loss = loss + kl * ((reference[n, t] - u[n, t]).exp() - (reference[n, t] - u[n, t]) - 1)
            loss = loss - bonus * entropy(inputs[0][n, t], *inputs[1:])
            tokens = tokens + loss * torch.nn.functional.one_hot(torch.tensor(n * TOKENS + t), SEQUENCES * TOKENS).reshape(u.shape)
            of_sequence.append(loss)
            total, count = total + loss, count + 1
        if of_sequence:
            per_sequence.append(sum(of_sequence) / len(of_sequence))
    return {"none": tokens, "sum": total, "mean": total / count, "sequence_mean": sum(per_sequence) / len(per_sequence)}[reduction]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "sequence_mean"])
@pytest.mark.parametrize(
    ("of_tokens", "with_old", "kl", "bonus"), [(False, True, 0.0, 0.0), (True, True, 0.3, 0.05), (False, False, 0.1, 0.2)]
)
def test_policy_gradient_loss_equals_its_definition(reduction, of_tokens, with_old, kl, bonus):
    inputs, targets = head()
    targets[3] = IGNORED
    generator = torch.Generator().manual_seed(3)
    advantages = torch.randn((SEQUENCES, TOKENS) if of_tokens else (SEQUENCES,), generator=generator, dtype=torch.float64)
    noise = torch.randn(2, SEQUENCES, TOKENS, generator=generator, dtype=torch.float64)
    u = token_log_prob(*inputs, targets).detach()
    old, reference = (u + 0.4 * noise[0] if with_old else None), u + noise[1]
    ours = losses.policy_gradient_loss(
        *inputs[:2],
        targets,
        advantages,
        old,
        reference if kl else None,
        clip_low=0.2,
        clip_high=0.3,
        kl_coefficient=kl,
        entropy_coefficient=bonus,
        bias=inputs[2],
        reduction=reduction,
    )
    theirs = policy_by_definition(inputs, targets, advantages, old, reference, 0.2, 0.3, kl, bonus, reduction)
    assert_same(ours, theirs, inputs)


def test_policy_gradient_loss_compiles_whole():
    inputs, targets = head()

    def loss(hidden, weight):
        gain = torch.ones(SEQUENCES, dtype=torch.float64)
        return losses.policy_gradient_loss(hidden, weight, targets, gain, entropy_coefficient=0.1)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert_same(compiled(*inputs[:2]), loss(*inputs[:2]), inputs[:2], 1e-12)


def test_bad_arguments_of_the_policy_loss_are_named():
    inputs, targets = head()
    call = losses.policy_gradient_loss
    gain = torch.ones(SEQUENCES, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^policy_gradient_loss: advantages has shape \(6,\); expected \(4, 6\) or \(4,\)$"):
        call(*inputs[:2], targets, torch.ones(6))
    with pytest.raises(
        ValueError, match=r"^policy_gradient_loss: reference_log_prob is None; expected a tensor, for kl_coefficient is 0.1$"
    ):
        call(*inputs[:2], targets, gain, kl_coefficient=0.1)
    with pytest.raises(ValueError, match=r"^policy_gradient_loss: old_log_prob has shape \(4,\); expected that of targets, \(4, 6\)$"):
        call(*inputs[:2], targets, gain, gain)
    with pytest.raises(ValueError, match=r"^policy_gradient_loss: clip_low is -0.1; expected a number of at least 0$"):
        call(*inputs[:2], targets, gain, clip_low=-0.1)
    with pytest.raises(
        ValueError, match=r"^policy_gradient_loss: reduction is 'token'; expected one of 'sequence_mean', 'mean', 'sum', 'none'$"
    ):
        call(*inputs[:2], targets, gain, reduction="token")


def test_likelihood_ratio_score_is_the_difference_of_two_models():
    inputs, targets = head()
    others, _ = head(seed=9)
    ours = losses.likelihood_ratio_score(*inputs[:2], *others[:2], targets, bias=inputs[2], base_bias=others[2])
    counted = targets != IGNORED
    theirs = ((token_log_prob(*inputs, targets) - token_log_prob(*others, targets)) * counted).sum(1)
    assert_same(ours, theirs, [*inputs, *others])


@pytest.mark.parametrize("interpolation", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_aggregate_loss_is_that_of_the_mean_prediction_and_of_each_prediction_against_the_bag(interpolation, softcap):
    inputs, labels = head()
    labels = labels.clamp(min=0)
    ours = losses.aggregate_cross_entropy(
        *inputs[:2], labels, bias=inputs[2], interpolation=interpolation, reduction="none", softcap=softcap
    )
    logits = inputs[0] @ inputs[1].T + inputs[2]
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    p = torch.softmax(logits, -1)
    response = torch.nn.functional.one_hot(labels, CLASSES).double().mean(1)
    bag = -(response * p.mean(1).log()).sum(-1)
    instance = -(response[:, None] * p.log()).sum(-1).mean(1)
    assert_same(ours, (1 - interpolation) * bag + interpolation * instance, inputs)


def test_order_of_a_bag_s_labels_does_not_matter():
    inputs, labels = head()
    labels = labels.clamp(min=0)
    for interpolation in (0.0, 0.5):
        one, other = (losses.aggregate_cross_entropy(*inputs[:2], y, interpolation=interpolation) for y in (labels, labels.flip(1)))
        assert torch.allclose(one, other, rtol=1e-14, atol=0)


def test_bad_arguments_of_the_aggregate_loss_are_named():
    inputs, labels = head()
    with pytest.raises(IndexError, match=r"^aggregate_cross_entropy: labels holds -100 to 8; expected 0 to 8$"):
        losses.aggregate_cross_entropy(*inputs[:2], labels)
    with pytest.raises(ValueError, match=r"^aggregate_cross_entropy: interpolation is 2; expected a number from 0 to 1$"):
        losses.aggregate_cross_entropy(*inputs[:2], labels.clamp(min=0), interpolation=2)


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ("linupper", (0.155362, 0.422319, 0.422319)),
        ("quadratic", (0.211942, 0.576117, 0.211942)),
        ("extremes", (0.422319, 0.155362, 0.422319)),
    ],
)
def test_known_weights_of_three_losses(shape, weights):
    ours = losses.loss_based_weights(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), shape=shape)
    assert ours.tolist() == pytest.approx(weights, abs=6e-7)
    assert not ours.requires_grad


def test_equal_losses_weigh_the_same_and_no_losses_have_no_weights():
    for shape in ("linupper", "quadratic", "extremes"):
        assert losses.loss_based_weights(torch.full((4,), 2.5), shape=shape).tolist() == pytest.approx([0.25] * 4)
        assert losses.loss_based_weights(torch.zeros(0), shape=shape).shape == (0,)
    with pytest.raises(ValueError, match=r"^loss_based_weights: losses has shape \(2, 2\); expected \(B,\)$"):
        losses.loss_based_weights(torch.zeros(2, 2))


def test_reweighted_cross_entropy_holds_its_weights_constant_and_skips_empty_sequences():
    inputs, targets = head()
    targets[2] = IGNORED
    ours = losses.reweighted_cross_entropy(*inputs[:2], targets, bias=inputs[2], temperature=0.7)
    counted = (targets != IGNORED).double()
    each = (-(token_log_prob(*inputs, targets) * counted).sum(1) / counted.sum(1).clamp(min=1))[[0, 1, 3]]
    h = 2 * (each - each.min()) / (each.max() - each.min()) - 1
    w = torch.exp(torch.minimum(h + 1, torch.ones_like(h)) / 0.7).detach()
    assert_same(ours, (w / w.sum() * each).sum(), inputs)


def test_ens_loss_draws_nondecreasing_derivatives_that_depend_on_seed_and_step_alone():
    margins = torch.randn(101, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(1.5).requires_grad_()
    for exponent in (0.0, 0.5, -0.7):
        losses.ens_loss(margins, seed=3, step=5, exponent=exponent, reduction="sum").backward()
        slopes, margins.grad = margins.grad, None
        assert ((slopes >= -1 - 1e-6) & (slopes <= -1e-6)).all()
        untailed = torch.where(margins > 1, (slopes + 1e-6) * margins, slopes + 1e-6).detach()
        in_order = untailed[margins.argsort()]
        assert (in_order.diff() >= -1e-15).all() and in_order.unique().numel() > 20
        order = torch.randperm(101, generator=torch.Generator().manual_seed(1))
        shuffled = margins.detach()[order].requires_grad_()
        losses.ens_loss(shuffled, seed=3, step=5, exponent=exponent, reduction="sum").backward()
        assert torch.equal(shuffled.grad, slopes[order])
        losses.ens_loss(margins, seed=3, step=6, exponent=exponent, reduction="sum").backward()
        other, margins.grad = margins.grad, None
        assert not torch.equal(other, slopes)


def test_ens_loss_draws_from_inverse_box_cox_transforms_of_normals():
    from slipstick.losses import _ensemble

    normals = _ensemble._normals(7, 0, 200_000, torch)
    assert normals.mean().abs() < 0.01 and (normals.std() - 1).abs() < 0.01 and (normals.pow(4).mean() - 3).abs() < 0.1
    assert torch.equal(_ensemble._normals(7, 0, 5, torch), normals[:5])  # a stream, whatever the number drawn
    for exponent in (0.0, 0.5, -0.7):
        margins = torch.arange(-1000, 0, dtype=torch.float64).requires_grad_()
        losses.ens_loss(margins, seed=7, step=0, exponent=exponent, reduction="sum").backward()
        x = normals[:1000]
        drawn = torch.exp(x) if exponent == 0 else torch.clamp(1 + exponent * x, min=0) ** (1 / exponent)
        assert torch.allclose(margins.grad, torch.sort(torch.clamp(-drawn, min=-1)).values - 1e-6, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("argument", "value"), [("seed", -1), ("step", 1 << 32), ("exponent", math.nan), ("reduction", "x")])
def test_bad_arguments_of_ens_loss_are_named(argument, value):
    with pytest.raises(ValueError, match=rf"^ens_loss: {argument} is "):
        losses.ens_loss(torch.zeros(3), **{"seed": 1, "step": 1, argument: value})


def test_perpendicular_gradient_at_known_numbers_and_orthogonal_in_general():
    w, g = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0])
    assert losses.perpendicular_gradient(w, g).tolist() == pytest.approx([0.64, -0.48])
    assert losses.perpendicular_gradient(w, g, preserve_norm=True).tolist() == pytest.approx([0.8, -0.6])
    w, g = torch.randn(2, 30, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for preserve_norm in (False, True):
        projected = losses.perpendicular_gradient(w, g, preserve_norm=preserve_norm)
        assert (projected * w).sum().abs() < 1e-12 * w.norm() * g.norm()
        assert (projected * g).sum() > 0  # a descent direction
    assert losses.perpendicular_gradient(w, g, preserve_norm=True).norm() == pytest.approx(float(g.norm()), rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("preserve_norm", [False, True])
def test_a_parallel_gradient_is_projected_to_nothing_and_a_zero_parameter_changes_nothing(dtype, preserve_norm):
    w = torch.randn(50, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert not losses.perpendicular_gradient(w, -2 * w, preserve_norm=preserve_norm).any()
    assert torch.equal(losses.perpendicular_gradient(torch.zeros_like(w), w), w)
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\); expected that of parameter, \(50,\)$"):
        losses.perpendicular_gradient(w, w[:3])


def test_project_gradients_changes_gradients_in_place_before_a_step():
    layer = torch.nn.Linear(4, 3).double()
    layer(torch.ones(2, 4, dtype=torch.float64)).square().sum().backward()
    layer.bias.grad = None
    before, place = layer.weight.grad.clone(), layer.weight.grad
    losses.project_gradients(layer.parameters())
    assert layer.weight.grad is place and layer.bias.grad is None
    assert torch.equal(place, losses.perpendicular_gradient(layer.weight, before))
