# Contract: every loss over the statistics of a head equals its paper's formula over dense logits, in value and in all gradients, for every
# reduction, with ignored rows, bias, softcap and leading dimensions; bad arguments are named. Oracles: the formulas of the papers written
# once more in float64 over the whole matrix of logits, torch's autograd through them, and numbers computed by hand from the definitions.
from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from slipstick import losses  # noqa: E402

pytestmark = pytest.mark.torch

ROWS, WIDTH, CLASSES = (2, 5), 6, 11
IGNORED = -7


def head(dtype=torch.float64, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(*ROWS, WIDTH, generator=generator, dtype=torch.float64).mul(spread).to(dtype)
    weight = torch.randn(CLASSES, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(CLASSES, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, CLASSES, ROWS, generator=generator)
    targets[0, 1] = targets[1, 4] = IGNORED
    targets[0, 0], targets[1, 0] = 0, CLASSES - 1
    return [tensor.requires_grad_() for tensor in (hidden, weight, bias)], targets


def dense_logits(hidden, weight, bias, softcap=None, scale=1.0):
    logits = scale * (hidden @ weight.T + bias)
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def label_of(values, targets):
    return values.gather(-1, targets.clamp(min=0)[..., None])[..., 0]


def label_prob(logits, targets):
    return label_of(torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True), targets)


def others_of(logits, targets):
    """z_j - z_y + 0 for j = y, as the rows of margins of the robust losses."""
    return logits - label_of(logits, targets)[..., None]


def with_margin(logits, targets, margin):
    one_hot = torch.nn.functional.one_hot(targets.clamp(min=0), CLASSES).to(logits)
    return others_of(logits, targets) + margin * (1 - one_hot)


def ldr(logits, targets, temperature, margin):
    return temperature * torch.log(torch.exp(with_margin(logits, targets, margin) / temperature).mean(-1))


def taylor(x):
    return 1 + x + x**2 / 2


def z_score(logits, targets, alpha, beta):
    zeta = (label_of(logits, targets) - logits.mean(-1)) / logits.std(-1, correction=0)
    return torch.log(1 + torch.exp(alpha * (beta - zeta))) / alpha


def dice(logits, targets, alpha, gamma):
    p = label_prob(logits, targets)
    f = (1 - p) ** alpha * p
    return 1 - (2 * f + gamma) / (f + 1 + gamma)


def all_class_dice(logits, targets, alpha, gamma, scope):
    p = torch.softmax(logits, -1)
    counts = (targets != IGNORED)[..., None]
    f = torch.where(counts, (1 - p) ** alpha * p, 0.0)
    t = torch.where(counts, torch.nn.functional.one_hot(targets.clamp(min=0), CLASSES).to(f), 0.0)
    whole = (lambda x: x.sum((0, 1), keepdim=True)) if scope == "batch" else (lambda x: x)
    return (1 - (2 * f * t + gamma) / (whole(f) + whole(t) + gamma)).sum(-1)


def smoothed(logits, targets, smoothing):
    log_p = torch.log_softmax(logits, -1)
    wanted = (1 - smoothing) * torch.nn.functional.one_hot(targets.clamp(min=0), CLASSES).to(logits) + smoothing / CLASSES
    return -(wanted * log_p).sum(-1)


def uniform_kl(logits, targets, direction):
    p, u = torch.softmax(logits, -1), torch.full_like(logits, 1 / CLASSES)
    return (u * torch.log(u / p)).sum(-1) if direction == "from_uniform" else (p * torch.log(p / u)).sum(-1)


def capped(logits, targets, k, temperature, margin):
    """The maximum over q <= 1/k by its dual, so without sorting: q = min(1/k, e^(d/lambda - nu)), nu by bisection, weights constant."""
    d = with_margin(logits, targets, margin)
    with torch.no_grad():
        low, high = torch.full(d.shape[:-1], -200.0, dtype=d.dtype), torch.full(d.shape[:-1], 200.0, dtype=d.dtype)
        for _ in range(200):
            middle = (low + high) / 2
            mass = torch.exp(d / temperature - middle[..., None]).clamp(max=1 / k).sum(-1)
            low, high = torch.where(mass > 1, middle, low), torch.where(mass > 1, high, middle)
        q = torch.exp(d / temperature - high[..., None]).clamp(max=1 / k)
    return (q * d).sum(-1) - temperature * (q * torch.log(q * CLASSES)).sum(-1)


def adaptive(logits, targets, initial, alpha, margin):
    d = with_margin(logits, targets, margin)
    with torch.no_grad():
        grid = torch.linspace(initial - math.log(CLASSES) / alpha, initial, 200_001, dtype=d.dtype)
        best = []
        for row in d.reshape(-1, CLASSES):
            values = torch.cat(
                [
                    t * torch.log(torch.exp(row / t[:, None]).mean(-1)) - alpha / 2 * (t - initial) ** 2
                    for t in grid.split(4096)
                    for t in [t]
                ]
            )
            best.append(grid[values.argmax()])
        best = torch.stack(best).reshape(d.shape[:-1])
    return best * torch.log(torch.exp(d / best[..., None]).mean(-1)) - alpha / 2 * (best - initial) ** 2


def stable(x):
    return torch.where(x >= 0, x + 1, 1 / (1 - x.clamp(max=0)))


def comp_sum(logits, targets, tau):
    v = torch.exp(others_of(logits, targets)).sum(-1) - 1
    return torch.log(1 + v) if tau == 1 else ((1 + v) ** (1 - tau) - 1) / (1 - tau)


# name of the loss: its arguments, the dense formula
CASES = [
    ("focal_loss", {"gamma": 2.0}, lambda z, y, gamma: -((1 - label_prob(z, y)) ** gamma) * torch.log(label_prob(z, y))),
    ("focal_loss", {"gamma": 0.5}, lambda z, y, gamma: -((1 - label_prob(z, y)) ** gamma) * torch.log(label_prob(z, y))),
    ("focal_loss", {"gamma": 0.0}, lambda z, y, gamma: -torch.log(label_prob(z, y))),
    ("label_smoothed_cross_entropy", {"smoothing": 0.2}, smoothed),
    ("label_smoothed_cross_entropy", {"smoothing": 1.0}, smoothed),
    ("log_partition_penalty", {"coefficient": 0.3}, lambda z, y, coefficient: coefficient * torch.log(torch.exp(z).sum(-1)) ** 2),
    ("uniform_kl", {"direction": "from_uniform"}, uniform_kl),
    ("uniform_kl", {"direction": "to_uniform"}, uniform_kl),
    *(("comp_sum_loss", {"tau": tau}, comp_sum) for tau in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)),
    ("ldr_kl_loss", {"temperature": 0.7, "margin": 0.0}, ldr),
    ("ldr_kl_loss", {"temperature": 2.0, "margin": 1.5}, ldr),
    ("ldr_kl_loss", {"temperature": 0.2, "margin": 1.5}, ldr),
    *(("ldr_k_kl_loss", {"k": k, "temperature": t, "margin": 0.5}, capped) for k, t in ((1, 1.0), (2, 0.5), (4, 0.1), (4, 5.0), (10, 0.3))),
    (
        "ldr_k_kl_loss",
        {"k": CLASSES, "temperature": 0.5, "margin": 0.5},
        lambda z, y, k, temperature, margin: with_margin(z, y, margin).mean(-1),
    ),
    ("stablemax_cross_entropy", {}, lambda z, y: -torch.log(label_of(stable(z), y) / stable(z).sum(-1))),
    ("z_score_loss", {"alpha": 0.7, "beta": 1.5}, z_score),
    (
        "spherical_softmax_loss",
        {"epsilon": 0.1},
        lambda z, y, epsilon: -torch.log((label_of(z, y) ** 2 + epsilon) / (z**2 + epsilon).sum(-1)),
    ),
    ("taylor_softmax_loss", {}, lambda z, y: -torch.log(taylor(label_of(z, y)) / taylor(z).sum(-1))),
    ("one_hot_squared_error", {}, lambda z, y: ((z - torch.nn.functional.one_hot(y.clamp(min=0), CLASSES)) ** 2).sum(-1)),
    ("dice_loss", {"alpha": 0.01, "gamma": 1.0}, dice),
    ("dice_loss", {"alpha": 1.3, "gamma": 0.2}, dice),
    ("all_class_dice_loss", {"alpha": 0.4, "gamma": 0.5, "scope": "example"}, all_class_dice),
    ("all_class_dice_loss", {"alpha": 0.0, "gamma": 0.5, "scope": "batch"}, all_class_dice),
    ("all_class_dice_loss", {"alpha": 0.4, "gamma": 0.5, "scope": "batch"}, all_class_dice),
]
IDS = [f"{name}-{'-'.join(map(str, arguments.values()))}" for name, arguments, _ in CASES]


def reduced(losses_of_rows, targets, reduction):
    counted = losses_of_rows[targets != IGNORED]
    if reduction == "none":
        return torch.where(targets != IGNORED, losses_of_rows, 0.0)
    return counted.sum() if reduction == "sum" else counted.mean()


def assert_close_with_gradients(ours, theirs, inputs, tolerance):
    """Values, and gradients of a random combination of them, both relative to the largest."""
    generator = torch.Generator().manual_seed(5)
    along = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    pairs = [(ours, theirs)]
    our_gradients = torch.autograd.grad((ours * along).sum(), inputs)
    their_gradients = torch.autograd.grad((theirs * along).sum(), inputs)
    for a, b in [*pairs, *zip(our_gradients, their_gradients)]:
        scale = b.detach().abs().max().clamp(min=1)
        assert (a.detach().double() - b.detach()).abs().max() <= tolerance * scale


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "arguments", "formula"), CASES, ids=IDS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_loss_equals_the_formula_of_its_paper(name, arguments, formula, reduction):
    inputs, targets = head()
    ours = getattr(losses, name)(inputs[0], inputs[1], targets, bias=inputs[2], ignore_index=IGNORED, reduction=reduction, **arguments)
    assert ours.dtype == torch.float64
    theirs = reduced(formula(dense_logits(*inputs), targets, **arguments), targets, reduction)
    assert_close_with_gradients(ours, theirs, inputs, 1e-9)


@pytest.mark.parametrize(("name", "arguments", "formula"), CASES, ids=IDS)
def test_loss_takes_softcap_scale_and_single_precision(name, arguments, formula):
    inputs, targets = head(torch.float32, seed=1)
    options = {"softcap": None if name == "stablemax_cross_entropy" else 3.0, "scale": 0.5, "workspace": 1 << 20}
    ours = getattr(losses, name)(
        inputs[0], inputs[1], targets, bias=inputs[2], ignore_index=IGNORED, reduction="none", **arguments, **options
    )
    assert ours.dtype == torch.float32
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    theirs = reduced(formula(dense_logits(*doubles, softcap=options["softcap"], scale=0.5), targets, **arguments), targets, "none")
    along = torch.randn(ours.shape, generator=torch.Generator().manual_seed(5))
    our_gradients = torch.autograd.grad((ours * along).sum(), inputs)
    their_gradients = torch.autograd.grad((theirs * along.double()).sum(), doubles)
    for a, b in [(ours, theirs), *zip(our_gradients, their_gradients)]:
        assert (a.detach().double() - b.detach()).abs().max() <= 2e-5 * b.detach().abs().max().clamp(min=1)


def test_the_z_score_of_a_row_with_nan_is_nan_and_of_equal_logits_zero():
    hidden, weight = torch.ones(3, 4), torch.ones(5, 4)
    hidden[0, 1] = math.nan
    losses_of_rows = losses.z_score_loss(hidden, weight, torch.zeros(3, dtype=torch.int64), reduction="none")
    assert losses_of_rows[0].isnan()
    assert torch.allclose(losses_of_rows[1:], torch.full((2,), math.log(2.0)))


@pytest.mark.parametrize(("name", "arguments", "formula"), CASES, ids=IDS)
def test_all_rows_ignored_give_zero_and_zero_gradients_but_a_mean_of_nothing_is_nan(name, arguments, formula):
    inputs, targets = head()
    targets = torch.full_like(targets, IGNORED)

    def call(reduction):
        return getattr(losses, name)(*inputs[:2], targets, bias=inputs[2], ignore_index=IGNORED, reduction=reduction, **arguments)

    assert torch.equal(call("none"), torch.zeros(ROWS, dtype=torch.float64))
    assert call("mean").isnan()
    total = call("sum")
    assert total == 0
    for gradient in torch.autograd.grad(total, inputs, allow_unused=True):
        assert gradient is None or not gradient.any()


def test_adaptive_robust_loss_is_the_maximum_over_the_temperature():
    inputs, targets = head()
    price = 1.7 * math.log(CLASSES)
    ours = losses.aldr_kl_loss(
        *inputs[:2], targets, bias=inputs[2], ignore_index=IGNORED, reduction="none", alpha=price, margin=0.5, initial_temperature=1.2
    )
    theirs = reduced(adaptive(dense_logits(*inputs), targets, 1.2, price, 0.5), targets, "none")
    assert_close_with_gradients(ours, theirs, inputs, 2e-5)  # the temperatures of the oracle are 6e-6 apart
    assert ((ours - theirs) >= -1e-12).all()


def test_lagged_adaptive_loss_moves_each_temperature_as_its_authors_do():
    inputs, targets = head()
    old = torch.rand(ROWS, dtype=torch.float64) + 0.5
    loss, new = losses.lagged_aldr_kl_loss(
        *inputs[:2], targets, old, bias=inputs[2], ignore_index=IGNORED, reduction="none", margin=0.3, initial_temperature=1.5, strength=3.0
    )
    logits = dense_logits(*inputs)
    q = torch.softmax(logits / old[..., None], -1)
    log_k = math.log(CLASSES)
    moved = (1.5 - 1.5 * (q * torch.log(CLASSES * q)).sum(-1) / (3.0 * log_k)).detach()
    assert torch.allclose(new, torch.where(targets != IGNORED, moved, old), rtol=1e-12, atol=0)
    d = with_margin(logits, targets, 0.3)
    dense = moved * torch.log(torch.exp(d / moved[..., None]).mean(-1)) - 3.0 * log_k / 3.0 * (moved - 1.5) ** 2
    assert_close_with_gradients(loss, reduced(dense, targets, "none"), inputs, 1e-9)


def logits_as_head(logits, label):
    """A head whose only row of logits is the given one."""
    return torch.ones(1, 1, dtype=torch.float64), torch.tensor(logits, dtype=torch.float64)[:, None], torch.tensor([label])


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("stablemax_cross_entropy", {}, math.log(1.5)),
        ("ldr_kl_loss", {"temperature": 1.0, "margin": 0.0}, -0.928766),
        ("ldr_kl_loss", {"temperature": 1.0, "margin": 1.0}, -0.691006),
        ("ldr_kl_loss", {"temperature": 10.0, "margin": 0.0}, -1.587812),
        ("ldr_kl_loss", {"temperature": 10.0, "margin": 1.0}, -0.966694),
        ("ldr_kl_loss", {"temperature": 0.1, "margin": 0.0}, -0.109861),
        ("ldr_kl_loss", {"temperature": 0.1, "margin": 1.0}, -0.109857),
        ("ldr_k_kl_loss", {"k": 1, "temperature": 1.0, "margin": 1.0}, -0.691006),
        ("aldr_kl_loss", {"initial_temperature": 1.0, "margin": 1.0}, -0.670397),
        ("uniform_kl", {"direction": "from_uniform"}, 0.737900),
        ("uniform_kl", {"direction": "to_uniform"}, 0.574346),
    ],
)
def test_known_values_at_three_logits(name, arguments, value):
    hidden, weight, targets = logits_as_head([2.0, 0.0, -1.0], 0)
    assert getattr(losses, name)(hidden, weight, targets, **arguments).item() == pytest.approx(value, abs=6e-7)


@pytest.mark.parametrize(("tau", "value"), [(0.0, 3.0), (0.5, 2.0), (1.0, 1.386294), (1.5, 1.0), (2.0, 0.75)])
def test_known_values_of_comp_sum_at_a_probability_of_a_quarter(tau, value):
    hidden, weight, targets = logits_as_head([0.0, math.log(3)], 0)
    assert float(losses.comp_sum_loss(hidden, weight, targets, tau=tau)) == pytest.approx(value, abs=6e-7)


def test_known_value_of_dice():
    hidden, weight, targets = logits_as_head([0.0, 0.0], 0)
    assert float(losses.dice_loss(hidden, weight, targets, alpha=0.01, gamma=1.0)) == pytest.approx(0.201660, abs=6e-7)
    both = losses.all_class_dice_loss(hidden, weight, targets, alpha=0.01, gamma=1.0, scope="example")
    assert float(both) == pytest.approx(0.201660 + 0.331795, abs=1.2e-6)


def test_stablemax_gradient_at_three_logits():
    hidden, weight, targets = logits_as_head([2.0, 0.0, -1.0], 0)
    weight.requires_grad_()
    losses.stablemax_cross_entropy(hidden, weight, targets).backward()
    assert weight.grad[:, 0].tolist() == pytest.approx([-1 / 9, 2 / 9, 1 / 18], abs=1e-12)


EXTREME = [[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4], [3.0, 3.0, 3.0], [0.0, -300.0, -300.0]]
ANY_LOGITS = [case for case in CASES if case[0] != "comp_sum_loss" or case[1]["tau"] >= 1]


@pytest.mark.parametrize(("name", "arguments", "formula"), ANY_LOGITS, ids=[i for i, c in zip(IDS, CASES) if c in ANY_LOGITS])
@pytest.mark.parametrize("logits", EXTREME, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extreme_logits_give_finite_losses_and_gradients(name, arguments, formula, logits, dtype):
    hidden, weight, targets = (tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in logits_as_head(logits, 0))
    weight.requires_grad_()
    if "k" in arguments:
        arguments = {**arguments, "k": min(arguments["k"], 3)}
    loss = getattr(losses, name)(hidden, weight, targets, **arguments)
    loss.backward()
    assert loss.isfinite() and weight.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES} | {"aldr_kl_loss"}))
def test_bad_arguments_are_named(name):
    inputs, targets = head()
    hidden, weight = inputs[:2]
    loss = getattr(losses, name)
    required = {"k": 2} if name == "ldr_k_kl_loss" else {}
    with pytest.raises(ValueError, match=rf"^{name}: reduction is 'average'; expected one of 'mean', 'sum', 'none'$"):
        loss(hidden, weight, targets, ignore_index=IGNORED, reduction="average", **required)
    with pytest.raises(
        ValueError, match=rf"^{name}: hidden has shape \(2, 5, 6\) and weight \(11, 5\); expected \(\.\.\., D\) and \(V, D\)$"
    ):
        loss(hidden, weight[:, 1:], targets, ignore_index=IGNORED, **required)
    with pytest.raises(TypeError, match=rf"^{name}: targets is a torch.Tensor of float64; expected a torch.Tensor of int64$"):
        loss(hidden, weight, targets.double(), ignore_index=IGNORED, **required)
    with pytest.raises(ValueError, match=rf"^{name}: targets has shape \(10,\); expected \(2, 5\), as hidden has rows$"):
        loss(hidden, weight, targets.reshape(-1), ignore_index=IGNORED, **required)
    with pytest.raises(TypeError, match=rf"^{name}: hidden is a list; expected a torch.Tensor$"):
        loss([1.0], weight, targets, **required)
    with pytest.raises((ValueError, IndexError), match=str(CLASSES)):
        loss(hidden, weight, torch.full_like(targets, CLASSES), ignore_index=IGNORED, **required)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("focal_loss", {"gamma": -1.0}, "gamma is -1.0; expected a number of at least 0"),
        ("focal_loss", {"gamma": math.nan}, "gamma is nan; expected a number of at least 0"),
        ("label_smoothed_cross_entropy", {"smoothing": 1.5}, "smoothing is 1.5; expected a number from 0 to 1"),
        ("log_partition_penalty", {"coefficient": math.inf}, "coefficient is inf; expected a finite number"),
        ("uniform_kl", {"direction": "both"}, "direction is 'both'; expected one of 'from_uniform', 'to_uniform'"),
        ("comp_sum_loss", {"tau": -0.1}, "tau is -0.1; expected a finite number of at least 0"),
        ("ldr_kl_loss", {"temperature": 0.0}, "temperature is 0.0; expected a positive number"),
        ("ldr_kl_loss", {"margin": math.nan}, "margin is nan; expected a finite number"),
        ("ldr_k_kl_loss", {"k": 12}, "k is 12; expected a whole number from 1 to 11"),
        ("ldr_k_kl_loss", {"k": 2, "workspace": 0}, "workspace is 0; expected a positive number of bytes"),
        ("aldr_kl_loss", {"alpha": 1.0}, "alpha is 1.0; expected more than log(V) / initial_temperature = 2.3979"),
        ("aldr_kl_loss", {"initial_temperature": -1.0}, "initial_temperature is -1.0; expected a positive number"),
        ("z_score_loss", {"alpha": 0.0}, "alpha is 0.0; expected a positive number"),
        ("spherical_softmax_loss", {"epsilon": 0.0}, "epsilon is 0.0; expected a positive number"),
        ("dice_loss", {"gamma": 0.0}, "gamma is 0.0; expected a positive number"),
        ("all_class_dice_loss", {"scope": "row"}, "scope is 'row'; expected one of 'batch', 'example'"),
    ],
)
def test_numbers_out_of_range_are_named(name, arguments, message):
    inputs, targets = head()
    with pytest.raises(ValueError) as caught:
        getattr(losses, name)(*inputs[:2], targets, ignore_index=IGNORED, **arguments)
    assert str(caught.value) == f"{name}: {message}"


@pytest.mark.parametrize("name", ["log_partition_penalty", "uniform_kl"])
def test_without_targets_all_rows_count(name):
    inputs, _ = head()
    arguments = {"log_partition_penalty": {"coefficient": 1.0}, "uniform_kl": {}}[name]
    ours = getattr(losses, name)(*inputs[:2], bias=inputs[2], reduction="none", **arguments)
    everywhere = getattr(losses, name)(*inputs[:2], torch.zeros(ROWS, dtype=torch.int64), bias=inputs[2], reduction="none", **arguments)
    assert ours.shape == ROWS and torch.equal(ours, everywhere)


@pytest.mark.parametrize(("name", "arguments"), [("ldr_k_kl_loss", {"k": 3}), ("all_class_dice_loss", {}), ("aldr_kl_loss", {})])
def test_chunks_of_rows_do_not_change_a_loss(name, arguments):
    inputs, targets = head()
    results = []
    for workspace in (1, 2000, 1 << 20):  # one row a chunk, a few, all
        loss = getattr(losses, name)(*inputs[:2], targets, bias=inputs[2], ignore_index=IGNORED, workspace=workspace, **arguments)
        results.append([loss, *torch.autograd.grad(loss, inputs)])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_smooth_adversarial_loss_adds_the_move_of_all_margins(tau, reduction):
    inputs, targets = head()
    perturbed = torch.randn(*ROWS, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64).requires_grad_()
    with torch.no_grad():
        perturbed[1, 1] = inputs[0][1, 1]  # a row that does not move: norm 0, no gradient
    options = {"bias": inputs[2], "ignore_index": IGNORED, "reduction": reduction, "tau": tau, "scale": 0.5}
    ours = losses.smooth_adversarial_comp_sum_loss(inputs[0], perturbed, inputs[1], targets, coefficient=0.7, **options)
    z, moved = dense_logits(*inputs, scale=0.5), dense_logits(perturbed, *inputs[1:], scale=0.5)
    margins = [label_of(logits, targets)[..., None] - logits for logits in (z, moved)]
    squares = (margins[1] - margins[0]).square().sum(-1)
    still = torch.zeros(ROWS, dtype=torch.bool)
    still[1, 1] = True
    norm = torch.where(still, 0.0, torch.where(still, 1.0, squares).sqrt())
    theirs = reduced(comp_sum(z, targets, tau) + 0.7 * norm, targets, reduction)
    assert_close_with_gradients(ours, theirs, [*inputs, perturbed], 1e-9)


def test_bad_arguments_of_the_smooth_adversarial_loss_are_named():
    (hidden, weight, _), targets = head()
    with pytest.raises(
        ValueError, match=r"^smooth_adversarial_comp_sum_loss: perturbed_hidden has shape \(2, 4, 6\); expected that of hidden"
    ):
        losses.smooth_adversarial_comp_sum_loss(hidden, hidden[:, 1:], weight, targets, ignore_index=IGNORED)
    with pytest.raises(ValueError, match=r"^smooth_adversarial_comp_sum_loss: coefficient is -1; expected a finite number of at least 0$"):
        losses.smooth_adversarial_comp_sum_loss(hidden, hidden, weight, targets, ignore_index=IGNORED, coefficient=-1)


def test_every_public_name_can_be_had_and_is_documented():
    from slipstick.losses import _family

    for name in _family.FILES:
        thing = getattr(losses, name)
        assert "Source:" in thing.__doc__ or name in ("sequence_log_prob", "project_gradients")
        assert name in dir(losses) and name in losses.__all__


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"softcap": "a"}, TypeError, "softcap is 'a'; expected a number"),
        ({"scale": math.inf}, ValueError, "scale is inf"),
        ({"filter_eps": 2.0}, ValueError, "filter_eps is 2.0"),
        ({"workspace": 0}, ValueError, "workspace is 0"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"bias": torch.zeros(3)}, ValueError, "bias has shape"),
        ({"unknown": 1}, TypeError, ".*unexpected keyword argument 'unknown'"),
    ],
    ids=str,
)
def test_errors_name_the_loss_that_was_called(options, kind, message):
    (hidden, weight, _), targets = head()
    with pytest.raises(kind, match=rf"^focal_loss(: |\(\)){message}"):
        losses.focal_loss(hidden, weight, targets, ignore_index=IGNORED, **options)
    targets[0, 2] = CLASSES
    with pytest.raises(IndexError, match=r"^focal_loss: targets"):
        losses.focal_loss(hidden, weight, targets, ignore_index=IGNORED)
    with pytest.raises(IndexError, match=r"^linear_cross_entropy: targets"):
        losses.linear_cross_entropy(hidden, weight, targets, ignore_index=IGNORED, reduction="none")


def test_options_of_a_wrong_type_are_named():
    (hidden, weight, _), targets = head()
    for call, message in [
        (lambda: losses.comp_sum_loss(hidden, weight, targets, tau="a"), "comp_sum_loss: tau is 'a'; expected a number"),
        (lambda: losses.focal_loss(hidden, weight, targets, gamma=None), "focal_loss: gamma is None; expected a number"),
        (lambda: losses.ldr_kl_loss(hidden, weight, targets, workspace="a"), "ldr_kl_loss: workspace is 'a'; expected a number"),
        (
            lambda: losses.linear_cross_entropy(hidden, weight, targets, class_weight=[1.0] * CLASSES),
            "linear_cross_entropy: class_weight is a list; expected a torch.Tensor",
        ),
        (lambda: losses.linear_cross_entropy(hidden, weight, targets.tolist()), "linear_cross_entropy: targets is a list"),
    ]:
        with pytest.raises(TypeError, match=f"^{message}"):
            call()
    with pytest.raises(ValueError, match=r"linear_cross_entropy: class_weight holds -2\.0; expected numbers of at least 0"):
        losses.linear_cross_entropy(hidden, weight, targets, ignore_index=IGNORED, class_weight=torch.full((CLASSES,), -2.0))
