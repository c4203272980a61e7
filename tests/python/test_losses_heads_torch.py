# Contract: losses over two heads, a subset of the classes or sampled classes equal their definitions over dense logits in value and in the
# gradients of both heads, in any chunks; bad arguments are named. Oracles: the definitions in dense float64 with torch's autograd, and the
# published example numbers.
from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from slipstick import losses  # noqa: E402

pytestmark = pytest.mark.torch

ROWS, WIDTH, OTHER_WIDTH, CLASSES = (3, 4), 5, 7, 23
IGNORED = -100


def heads(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((*ROWS, WIDTH), (CLASSES, WIDTH), (CLASSES,), (*ROWS, OTHER_WIDTH), (CLASSES, OTHER_WIDTH), (CLASSES,))
    ]
    targets = torch.randint(0, CLASSES, ROWS, generator=generator)
    targets[1, 2] = targets[0, 0] = IGNORED
    return tensors, targets


def two_logits(tensors, softcap=None, scale=1.0):
    both = [scale * (hidden @ weight.T + bias) for hidden, weight, bias in (tensors[:3], tensors[3:])]
    return both if softcap is None else [softcap * torch.tanh(logits / softcap) for logits in both]


def call(name, tensors, *arguments, **options):
    hidden, weight, bias, other_hidden, other_weight, other_bias = tensors
    second = "assistant_bias" if name.startswith("logit") else "teacher_bias"
    return getattr(losses, name)(hidden, weight, other_hidden, other_weight, *arguments, bias=bias, **{second: other_bias}, **options)


def reduced(values, targets, reduction):
    if reduction == "none":
        return torch.where(targets != IGNORED, values, 0.0)
    return getattr(values[targets != IGNORED], reduction)()


def assert_same(ours, theirs, inputs, tolerance=1e-9):
    along = torch.randn(ours.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for a, b in [
        (ours, theirs),
        *zip(torch.autograd.grad((ours * along).sum(), inputs), torch.autograd.grad((theirs * along).sum(), inputs)),
    ]:
        assert (a - b).detach().abs().max() <= tolerance * b.detach().abs().max().clamp(min=1)


def kl(p, q):
    return (p * torch.log(p / q)).sum(-1)


def bernoulli_kl(p, q):
    return (p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))).sum(-1)


def divergence(kind, student, teacher, temperature, mixture):
    s, t = student / temperature, teacher / temperature
    p, q = torch.softmax(s, -1), torch.softmax(t, -1)
    m = mixture * q + (1 - mixture) * p
    half = torch.full_like(s, 0.5)
    return (
        temperature**2
        * {
            "forward_kl": lambda: kl(q, p),
            "reverse_kl": lambda: kl(p, q),
            "jensen_shannon": lambda: mixture * kl(q, m) + (1 - mixture) * kl(p, m),
            "binary_kl": lambda: bernoulli_kl(torch.sigmoid(t), torch.sigmoid(s)),
            "binary_kl_norm": lambda: bernoulli_kl(half, torch.sigmoid(s - t)),
        }[kind]()
    )


DIVERGENCES = ["forward_kl", "reverse_kl", "jensen_shannon", "binary_kl", "binary_kl_norm"]


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_distillation_loss_equals_its_definition(kind, reduction):
    tensors, targets = heads()
    ours = call("distillation_loss", tensors, targets, divergence=kind, temperature=1.7, mixture=0.3, reduction=reduction, workspace=9000)
    theirs = reduced(divergence(kind, *two_logits(tensors), 1.7, 0.3), targets, reduction)
    assert_same(ours, theirs, tensors)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_distillation_takes_softcap_and_scale_all_rows_and_a_frozen_teacher(kind):
    tensors, _ = heads()
    frozen = [*tensors[:3], *(tensor.detach() for tensor in tensors[3:])]
    ours = call("distillation_loss", frozen, divergence=kind, softcap=2.0, scale=0.7)
    theirs = divergence(kind, *two_logits(tensors, 2.0, 0.7), 1.0, 0.5).mean()
    assert_same(ours, theirs, tensors[:3])


def test_known_value_of_binary_kl_norm():
    one = torch.ones(1, 1, dtype=torch.float64)
    student = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    loss = losses.distillation_loss(one, student, one, torch.zeros(1, 1, dtype=torch.float64), divergence="binary_kl_norm", temperature=2.0)
    loss.backward()
    assert loss.item() == pytest.approx(4 * 0.5 * (math.log(0.5 / (1 / (1 + math.exp(-1)))) + math.log(0.5 / (1 - 1 / (1 + math.exp(-1))))))
    assert loss.item() == pytest.approx(0.480458, abs=6e-7)
    assert student.grad.item() == pytest.approx(0.462117, abs=6e-7)


def subset_by_definition(tensors, subset, temperature, renormalize, softcap=None, scale=1.0):
    s, t = (logits / temperature for logits in two_logits(tensors, softcap, scale))
    p, q = torch.softmax(s, -1).gather(-1, subset), torch.softmax(t, -1).gather(-1, subset)
    if renormalize:
        p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    return temperature**2 * kl(q, p)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_subset_and_top_k_distillation_equal_their_definition(renormalize, reduction):
    tensors, targets = heads()
    options = {"temperature": 1.4, "renormalize": renormalize, "reduction": reduction}
    subset = torch.rand(*ROWS, CLASSES, generator=torch.Generator().manual_seed(2)).argsort(-1)[..., :6]
    theirs = reduced(subset_by_definition(tensors, subset, 1.4, renormalize), targets, reduction)
    assert_same(call("subset_distillation_loss", tensors, subset, targets, **options), theirs, tensors)
    top = torch.topk(two_logits(tensors)[1], 6, dim=-1).indices
    theirs = reduced(subset_by_definition(tensors, top, 1.4, renormalize), targets, reduction)
    assert_same(call("top_k_distillation_loss", tensors, targets, k=6, **options), theirs, tensors)


@pytest.mark.parametrize("renormalize", [True, False])
def test_subset_distillation_takes_softcap_and_scale_and_all_rows(renormalize):
    tensors, _ = heads()
    top = torch.topk(two_logits(tensors)[1], 3, dim=-1).indices
    ours = call("top_k_distillation_loss", tensors, k=3, renormalize=renormalize, softcap=2.0, scale=0.6)
    assert_same(ours, subset_by_definition(tensors, top, 1.0, renormalize, 2.0, 0.6).mean(), tensors)


def difference_by_definition(tensors, targets, coefficient, threshold, share, softcap=None, scale=1.0):
    base, other = two_logits(tensors, softcap, scale)
    if threshold is not None:
        log_p = torch.log_softmax(base, -1).detach()
        kth = log_p.sort(-1, descending=True).values[..., max(1, int(share * CLASSES)) - 1]
        least = torch.minimum(log_p.max(-1).values + math.log(threshold), kth)
        other = torch.where(log_p >= least[..., None], other, torch.zeros_like(other))
    log_p = torch.log_softmax(base + coefficient * other, -1)
    return -log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0]


@pytest.mark.parametrize(("coefficient", "threshold", "share"), [(-1.0, 0.1, 0.1), (-0.7, 0.5, 0.3), (1.0, None, 0.1), (-1.0, 0.9, 0.0)])
def test_logit_difference_cross_entropy_equals_its_definition(coefficient, threshold, share):
    tensors, targets = heads()
    options = {"coefficient": coefficient, "threshold": threshold, "kept_share": share, "softcap": 4.0, "scale": 0.9}
    for reduction in ("none", "sum", "mean"):
        ours = call("logit_difference_cross_entropy", tensors, targets, reduction=reduction, workspace=5000, **options)
        theirs = reduced(difference_by_definition(tensors, targets, coefficient, threshold, share, 4.0, 0.9), targets, reduction)
        assert_same(ours, theirs, tensors)


def test_half_precision_heads_give_the_loss_of_their_widened_values():
    tensors, targets = heads(torch.bfloat16)
    doubles = [tensor.detach().double().requires_grad_() for tensor in tensors]
    ours = call("distillation_loss", tensors, targets)
    assert ours.dtype == torch.float32
    theirs = reduced(divergence("forward_kl", *two_logits(doubles), 1.0, 0.5), targets, "mean")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for a, b in zip(torch.autograd.grad(ours, tensors), torch.autograd.grad(theirs, doubles)):
        assert a.dtype == torch.bfloat16
        assert (a.double() - b).abs().max() <= 2**-8 * b.abs().max()


def test_compositional_loss_with_every_class_sampled_is_cross_entropy():
    tensors, targets = heads()
    hidden, weight, bias = tensors[:3]
    samples = torch.arange(CLASSES)
    uniform = torch.full((CLASSES,), -math.log(CLASSES), dtype=torch.float64)
    ours, average = losses.compositional_likelihood_loss(hidden, weight, targets, samples, uniform, bias=bias)
    logits = hidden @ weight.T + bias
    theirs = torch.nn.functional.cross_entropy(logits.reshape(-1, CLASSES), targets.reshape(-1))
    assert_same(ours, theirs, tensors[:3])
    counts = targets != IGNORED
    assert torch.allclose(average[counts], torch.logsumexp(logits, -1)[counts].detach())
    assert (average[~counts] == -math.inf).all()


def test_compositional_loss_has_the_gradient_of_the_batch_over_the_moving_average():
    tensors, targets = heads()
    hidden, weight, bias = tensors[:3]
    generator = torch.Generator().manual_seed(4)
    q = torch.softmax(torch.randn(CLASSES, generator=generator, dtype=torch.float64), 0)
    samples = torch.multinomial(q, 8, replacement=True, generator=generator)
    running = torch.randn(ROWS, generator=generator, dtype=torch.float64) + 3
    running[2, 0] = -math.inf
    ours, average = losses.compositional_likelihood_loss(
        hidden, weight, targets, samples, q.log()[samples], running, momentum=0.3, bias=bias, reduction="none"
    )
    logits = hidden @ weight.T + bias
    batch = (logits[..., samples].exp() / q[samples]).mean(-1)
    u = torch.where(running == -math.inf, batch, 0.7 * running.exp() + 0.3 * batch).detach()
    counts = targets != IGNORED
    assert torch.allclose(average, torch.where(counts, u.log(), running))
    surrogate = batch / u - logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]  # its gradient is the estimator's
    value = reduced(surrogate - (batch / u).detach() + u.log(), targets, "none")
    assert_same(ours, value, tensors[:3])


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("distillation_loss", {"divergence": "tvd"}, ValueError, "divergence is 'tvd'; expected one of 'forward_kl',"),
        ("distillation_loss", {"temperature": 0.0}, ValueError, "temperature is 0.0; expected a positive number"),
        ("distillation_loss", {"mixture": 1.0}, ValueError, "mixture is 1.0; expected a number between 0 and 1"),
        ("distillation_loss", {"softcap": -1.0}, ValueError, "softcap is -1.0; expected a positive number or None"),
        ("distillation_loss", {"workspace": -1}, ValueError, "workspace is -1; expected a positive number of bytes"),
        ("distillation_loss", {"reduction": "batchmean"}, ValueError, "reduction is 'batchmean'; expected one of"),
        ("top_k_distillation_loss", {"k": 24}, ValueError, "k is 24; expected a whole number from 1 to 23"),
        ("top_k_distillation_loss", {"k": 2, "temperature": math.nan}, ValueError, "temperature is nan; expected a positive number"),
        ("top_k_distillation_loss", {"k": 2, "reduction": "x"}, ValueError, "reduction is 'x'; expected one of"),
    ],
)
def test_bad_arguments_are_named(name, arguments, error, message):
    tensors, targets = heads()
    with pytest.raises(error) as caught:
        call(name, tensors, targets, **arguments)
    assert str(caught.value).startswith(f"{name}: {message}")


def test_heads_that_do_not_fit_are_named():
    (hidden, weight, bias, other_hidden, other_weight, _), targets = heads()
    with pytest.raises(ValueError, match=r"^distillation_loss: teacher_weight has 22 classes; expected 23, as weight has$"):
        losses.distillation_loss(hidden, weight, other_hidden, other_weight[1:])
    with pytest.raises(ValueError, match=r"^distillation_loss: teacher_hidden has rows of shape \(2, 4\); expected \(3, 4\)$"):
        losses.distillation_loss(hidden, weight, other_hidden[1:], other_weight)
    with pytest.raises(
        ValueError, match=r"^distillation_loss: teacher_hidden has shape \(3, 4, 7\) and teacher_weight \(23, 5\); expected"
    ):
        losses.distillation_loss(hidden, weight, other_hidden, weight)
    with pytest.raises(ValueError, match=r"^distillation_loss: bias has shape \(22,\); expected \(23,\)$"):
        losses.distillation_loss(hidden, weight, other_hidden, other_weight, bias=bias[1:])
    with pytest.raises(
        ValueError, match=r"^logit_difference_cross_entropy: assistant_hidden has rows of shape \(2, 4\); expected \(3, 4\)$"
    ):
        losses.logit_difference_cross_entropy(hidden, weight, other_hidden[1:], other_weight, targets)
    with pytest.raises(ValueError, match=r"^subset_distillation_loss: subset is int64 of shape \(3, 4\); expected int64 of \(3, 4, 'k'\)$"):
        losses.subset_distillation_loss(hidden, weight, other_hidden, other_weight, targets)
    with pytest.raises(IndexError, match=r"^subset_distillation_loss: subset holds 23 to 23; expected 0 to 22$"):
        losses.subset_distillation_loss(hidden, weight, other_hidden, other_weight, torch.full((*ROWS, 2), 23))
    with pytest.raises(IndexError, match=r"^distillation_loss: targets holds 23; expected 0 to 22, or -100 to ignore a row$"):
        losses.distillation_loss(hidden, weight, other_hidden, other_weight, torch.full(ROWS, 23))
    for samples, log_q, error, message in (
        (
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(0),
            ValueError,
            r"samples is int64 of shape \(0,\); expected int64 of \(k,\), k >= 1",
        ),
        (torch.tensor([23]), torch.zeros(1), IndexError, "samples holds 23 to 23; expected 0 to 22"),
        (torch.tensor([1]), torch.zeros(2), ValueError, r"sample_log_prob has shape \(2,\); expected \(1,\)"),
    ):
        with pytest.raises(error, match=f"^compositional_likelihood_loss: {message}$"):
            losses.compositional_likelihood_loss(hidden, weight, targets, samples, log_q)
