# Contract: what torch can do to a function, it can do to a loss of a head, or the loss says that it cannot: compiled whole, under torch.func by
# hidden states or by a batch of heads, differentiated by a learnt scale, with and without autograd recording; a forward-mode derivative and a
# gradient that would be dropped are refused by name. Oracles: the eager loss, torch's cross-entropy and autograd over dense float64 logits.
from __future__ import annotations

import pathlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.autograd import forward_ad  # noqa: E402

from slipstick import losses  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.kernel]
ROWS, WIDTH, CLASSES = 7, 5, 11


def head(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((ROWS, WIDTH), (CLASSES, WIDTH), (CLASSES,))
    )
    targets = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    targets[2] = -100
    return [x.to(dtype).requires_grad_() for x in (hidden, weight, bias)], targets


def subset(targets):
    return torch.stack([targets.clamp(min=0), (targets.clamp(min=0) + 3) % CLASSES], 1)


def compositional(h, w, b, y, t):
    return losses.compositional_likelihood_loss(h, w, y, torch.arange(4), torch.full((4,), -1.4), bias=b)[0]


# Every way through the room: (hidden, weight, bias, targets, teacher's hidden) -> loss.
PATHS = {
    "statistics": lambda h, w, b, y, t: losses.focal_loss(h, w, y, bias=b),
    "top values": lambda h, w, b, y, t: losses.row_statistics(h, w, y, bias=b, want=("lse",), topk=3).topk.values.sum(),
    "mean": lambda h, w, b, y, t: losses.linear_cross_entropy(h, w, y, b),
    "none": lambda h, w, b, y, t: losses.linear_cross_entropy(h, w, y, b, reduction="none").square().sum(),
    "bags": lambda h, w, b, y, t: losses.aggregate_cross_entropy(h[:, None], w, y.clamp(min=0)[:, None], bias=b),
    "ldr chunks": lambda h, w, b, y, t: losses.ldr_kl_loss(h, w, y, bias=b, temperature=0.1, margin=1.0),
    "ldr-k": lambda h, w, b, y, t: losses.ldr_k_kl_loss(h, w, y, k=3, bias=b, workspace=1000),
    "aldr": lambda h, w, b, y, t: losses.aldr_kl_loss(h, w, y, bias=b),
    "lagged aldr": lambda h, w, b, y, t: losses.lagged_aldr_kl_loss(h, w, y, torch.full((ROWS,), 0.8), bias=b)[0],
    "dice of examples": lambda h, w, b, y, t: losses.all_class_dice_loss(h, w, y, bias=b, scope="example"),
    "dice of a batch": lambda h, w, b, y, t: losses.all_class_dice_loss(h, w, y, bias=b, workspace=1000),
    "distillation": lambda h, w, b, y, t: losses.distillation_loss(h, w, t, 2 * w, y, bias=b, divergence="jensen_shannon", workspace=1000),
    "distillation of all rows": lambda h, w, b, y, t: losses.distillation_loss(h, w, t, w, bias=b),
    "top k": lambda h, w, b, y, t: losses.top_k_distillation_loss(h, w, t, w, y, k=3, bias=b),
    "subset": lambda h, w, b, y, t: losses.subset_distillation_loss(h, w, t, w, subset(y), y, bias=b, renormalize=False),
    "difference": lambda h, w, b, y, t: losses.logit_difference_cross_entropy(h, w, t, w, y, bias=b),
    "unnormalized": compositional,
}


SLOW = {
    "statistics",
    "bags",
    "difference",
    "ldr chunks",
    "distillation",
    "none",
    "mean",
    "aldr",
    "lagged aldr",
    "dice of examples",
    "distillation of all rows",
    "subset",
    "unnormalized",
}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.long) if name in SLOW else name for name in PATHS])
def path(request):
    return PATHS[request.param]


def eager(path, inputs, targets, teacher):
    loss = path(*inputs, targets, teacher)
    return loss, torch.autograd.grad(loss, inputs)


def test_compiled_whole_with_its_gradients(path):
    inputs, targets = head()
    teacher = torch.roll(inputs[0].detach(), 1, 0)
    loss, gradients = eager(path, inputs, targets, teacher)
    torch._dynamo.reset()
    compiled = torch.compile(path, fullgraph=True, backend="aot_eager")(*inputs, targets, teacher)
    assert torch.equal(compiled, loss)
    for a, b in zip(torch.autograd.grad(compiled, inputs), gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("options", [{}, {"class_weight": torch.ones(7)}], ids=["plain", "class_weight"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_without_a_look_at_the_values(options):
    from torch.fx.experimental.proxy_tensor import make_fx

    hidden, weight, targets = torch.randn(5, 4), torch.randn(7, 4), torch.tensor([0, 6, -100, 2, 2])

    def loss(hidden, weight, targets):
        return losses.linear_cross_entropy(hidden, weight, targets, **options)

    def ignored(traced):
        return traced(hidden, weight, torch.full_like(targets, -100))

    want = loss(hidden, weight, targets)
    for mode in ("real", "fake", "symbolic"):
        traced = make_fx(loss, tracing_mode=mode, _allow_non_fake_inputs=True)(hidden, weight, targets)
        assert torch.equal(traced(hidden, weight, targets), want)
        assert ignored(traced).isnan()
    traced = torch.jit.trace(loss, (hidden, weight, targets), check_trace=False)
    assert torch.equal(traced(hidden, weight, targets), want)
    assert ignored(traced).isnan()


def test_compiled_once_for_any_number_of_rows():
    torch._dynamo.reset()
    compiled = torch.compile(lambda h, w, y: losses.ldr_k_kl_loss(h, w, y, k=2), fullgraph=True, backend="aot_eager", dynamic=True)
    inputs, targets = head()
    for rows in (ROWS, ROWS - 1, 3):
        wanted = losses.ldr_k_kl_loss(inputs[0][:rows], inputs[1], targets[:rows], k=2)
        assert torch.equal(compiled(inputs[0][:rows], inputs[1], targets[:rows]), wanted)


def test_a_wrong_label_is_found_in_a_compiled_loss():
    (hidden, weight, _), targets = head()
    torch._dynamo.reset()
    compiled = torch.compile(lambda h, w, y: losses.ldr_k_kl_loss(h, w, y, k=2), fullgraph=True, backend="aot_eager")
    with pytest.raises(IndexError, match=r"ldr_k_kl_loss: targets holds 11; expected 0 to 10, or -100"):
        compiled(hidden, weight, torch.full_like(targets, CLASSES))


def test_gradients_by_torch_func(path):
    inputs, targets = head()
    teacher = torch.roll(inputs[0].detach(), 1, 0)
    _, gradients = eager(path, inputs, targets, teacher)
    for a, b in zip(torch.func.grad(path, (0, 1, 2))(*inputs, targets, teacher), gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-15)


def test_a_batch_of_heads_is_mapped_over(path):
    inputs, targets = head()
    teacher = torch.roll(inputs[0].detach(), 1, 0)
    weights = torch.stack([scale * inputs[1].detach() for scale in (1.0, -0.5, 2.0)])
    gradients, values = torch.func.vmap(torch.func.grad_and_value(path, 1), (None, 0, None, None, None))(
        inputs[0].detach(), weights, inputs[2].detach(), targets, teacher
    )
    for weight, gradient, value in zip(weights, gradients, values, strict=True):
        wanted, (_, by_weight, _) = eager(path, [inputs[0], weight.clone().requires_grad_(), inputs[2]], targets, teacher)
        assert torch.equal(value, wanted)
        assert torch.allclose(gradient, by_weight, rtol=1e-13, atol=1e-15)


def test_forward_mode_is_refused(path):
    inputs, targets = head()
    plain = [x.detach() for x in inputs]
    teacher = torch.roll(plain[0], 1, 0)

    def of_hidden(hidden):
        return path(hidden, *plain[1:], targets, teacher)

    refused = pytest.raises(NotImplementedError, match="a forward-mode derivative is asked for")
    with refused:
        torch.func.jvp(of_hidden, (plain[0],), (torch.ones_like(plain[0]),))
    with refused:
        torch.func.hessian(of_hidden)(plain[0])
    for leaf in (plain[0], inputs[0]):
        with forward_ad.dual_level(), refused:
            of_hidden(forward_ad.make_dual(leaf, torch.ones_like(leaf)))
    with forward_ad.dual_level():  # a tensor without a tangent is like any other
        assert torch.equal(of_hidden(plain[0]), path(*plain, targets, teacher))


def test_forward_mode_through_a_compiled_loss_and_a_bare_operator_is_refused():
    inputs, targets = head()
    hidden, weight, _ = (x.detach() for x in inputs)
    torch._dynamo.reset()
    compiled = torch.compile(lambda h: losses.linear_cross_entropy(h, weight, targets), fullgraph=True, backend="aot_eager")
    losses.subset_distillation_loss(hidden, weight, hidden, weight, subset(targets))  # registers the operator
    for function in (compiled, lambda h: torch.ops.slipstick.gathered_logits(h, weight, subset(targets))):
        with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="a forward-mode derivative is asked for"):
            function(forward_ad.make_dual(hidden, torch.ones_like(hidden)))


def test_a_second_derivative_is_refused(path):
    inputs, targets = head()
    teacher = torch.roll(inputs[0].detach(), 1, 0)
    loss = path(*inputs, targets, teacher)
    (gradient,) = torch.autograd.grad(loss, inputs[1], create_graph=True)
    with pytest.raises(RuntimeError, match="a gradient of a gradient is asked for; expected one backward"):
        torch.autograd.grad(gradient.sum(), inputs[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_a_learnt_scale_gets_its_gradient(dtype, softcap):
    inputs, targets = head(dtype)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    log_scale = torch.tensor(0.4, dtype=kind, requires_grad=True)
    found = losses.row_statistics(
        *inputs[:2], targets, bias=inputs[2], scale=log_scale.exp(), softcap=softcap, want=("target", "lse", "entropy")
    )
    loss = (found.lse - found.target + 0.3 * found.entropy).sum()
    doubles = [x.detach().double().requires_grad_() for x in (*inputs, log_scale)]
    z = doubles[3].exp() * (doubles[0] @ doubles[1].T + doubles[2])
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    counts = targets != -100
    p = torch.softmax(z, 1)
    wanted = torch.nn.functional.cross_entropy(z, targets, reduction="sum") - 0.3 * (p * p.log()).sum(1)[counts].sum()
    ours = torch.autograd.grad(loss, [*inputs, log_scale])
    theirs = torch.autograd.grad(wanted, doubles)
    roundings = 2 if dtype == torch.bfloat16 else 1  # the upstream gradient is another, see ERROR_BOUNDS
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double() - b).norm() <= roundings * losses.ERROR_BOUNDS[f"gradient_{str(dtype)[6:]}"] * b.norm()


def test_a_learnt_scale_alone_in_a_family_loss_compiled_and_mapped():
    inputs, targets = head()
    plain = [x.detach() for x in inputs]

    def loss(scale):
        return losses.focal_loss(*plain[:2], targets, bias=plain[2], scale=scale)

    factor = torch.tensor([0.8], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(factor), factor)
    step = 1e-6
    assert gradient.item() == pytest.approx((loss(0.8 + step) - loss(0.8 - step)).item() / (2 * step), rel=1e-7)
    torch._dynamo.reset()
    (compiled,) = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(factor), factor)
    assert torch.equal(compiled, gradient)
    factors = torch.tensor([0.8, 1.0, -2.0], dtype=torch.float64)
    assert torch.equal(torch.func.vmap(loss)(factors), torch.stack([loss(x) for x in factors]))
    temperature = torch.tensor(1.25, dtype=torch.float64, requires_grad=True)
    by_temperature = torch.autograd.gradcheck(lambda t: losses.ldr_kl_loss(*plain[:2], targets, bias=plain[2], temperature=t), temperature)
    assert by_temperature


def test_a_nan_in_an_ignored_row_stays_out_of_the_gradient_of_the_scale():
    inputs, targets = head()
    hidden = inputs[0].detach().clone()
    hidden[2] = float("nan")
    factor = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    losses.row_statistics(hidden, inputs[1], targets, scale=factor).lse.sum().backward()
    assert factor.grad.isfinite()


def refused_gradient(name):
    return pytest.raises(TypeError, match=f"{name} is a tensor that asks for a gradient; expected a number, as it gets none")


def test_gradients_that_would_be_dropped_are_refused():
    (hidden, weight, _), targets = head()
    number = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    cases = [
        ("row_statistics: softcap", lambda: losses.row_statistics(hidden, weight, targets, softcap=number)),
        ("row_statistics: filter_eps", lambda: losses.row_statistics(hidden, weight, targets, filter_eps=number)),
        ("linear_cross_entropy: z_loss", lambda: losses.linear_cross_entropy(hidden, weight, targets, z_loss=number)),
        ("linear_cross_entropy: label_smoothing", lambda: losses.linear_cross_entropy(hidden, weight, targets, label_smoothing=number)),
        ("linear_cross_entropy: softcap", lambda: losses.linear_cross_entropy(hidden, weight, targets, softcap=number)),
        ("ldr_k_kl_loss: scale", lambda: losses.ldr_k_kl_loss(hidden, weight, targets, k=2, scale=number)),
        ("ldr_k_kl_loss: softcap", lambda: losses.ldr_k_kl_loss(hidden, weight, targets, k=2, softcap=number)),
        ("distillation_loss: mixture", lambda: losses.distillation_loss(hidden, weight, hidden, weight, mixture=number)),
        (
            "logit_difference_cross_entropy: coefficient",
            lambda: losses.logit_difference_cross_entropy(hidden, weight, hidden, weight, targets, coefficient=number),
        ),
        ("distillation_loss: temperature", lambda: losses.distillation_loss(hidden, weight, hidden, weight, temperature=number)),
    ]
    for name, call in cases:
        with refused_gradient(name):
            call()
    assert losses.row_statistics(hidden, weight, targets, softcap=number.detach()).lse.isfinite().all()


def test_scales_that_are_none_are_named():
    (hidden, weight, _), targets = head()
    with pytest.raises(
        ValueError, match=r"scale is a tensor of float64 of shape \(2,\) on cpu; expected a floating-point one of one element"
    ):
        losses.row_statistics(hidden, weight, targets, scale=torch.ones(2).double())
    factor = torch.zeros((), dtype=torch.float64, requires_grad=True)
    lse = losses.row_statistics(hidden, weight, targets, scale=factor).lse
    assert torch.allclose(lse[0], torch.tensor(CLASSES).double().log())
    with pytest.raises(ValueError, match="scale is 0; expected another number where its gradient is asked for"):
        lse.sum().backward()
    for scale in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"ldr_k_kl_loss: scale is .*; expected a finite number"):
            losses.ldr_k_kl_loss(hidden, weight, targets, k=2, scale=scale)
        with pytest.raises(ValueError, match=r"scale is .*; expected a finite number"):
            losses.row_statistics(hidden, weight, targets, scale=scale)
    with pytest.raises(TypeError, match="ldr_k_kl_loss: hidden has dtype int64; expected a floating one"):
        losses.ldr_k_kl_loss(hidden.long(), weight.long(), targets, k=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_and_statistics_are_the_same_bits_with_and_without_autograd(dtype, reduction):
    generator = torch.Generator().manual_seed(1)
    hidden, weight = (torch.randn(shape, generator=generator).to(dtype) for shape in ((150, 24), (1500, 24)))
    targets = torch.randint(0, 1500, (150,), generator=generator)
    recorded = hidden.clone().requires_grad_()
    for options in (
        {},
        {"softcap": 4.0},
        {"label_smoothing": 0.1},
        {"z_loss": 0.01},
        {"class_weight": torch.rand(1500, generator=generator)},
    ):
        wanted = losses.linear_cross_entropy(hidden, weight, targets, reduction=reduction, **options)
        assert torch.equal(losses.linear_cross_entropy(recorded, weight, targets, reduction=reduction, **options), wanted)
        with torch.no_grad():
            assert torch.equal(losses.linear_cross_entropy(recorded, weight, targets, reduction=reduction, **options), wanted)
    want = ("target", "lse", "mean", "entropy", "maximum")
    plain, traced = (losses.row_statistics(x, weight, targets, want=want) for x in (hidden, recorded))
    assert all(torch.equal(getattr(plain, name), getattr(traced, name)) for name in want)


def test_the_loss_of_a_certain_label_is_not_rounded_away():
    """Logits 20 and 10: float32 numbers near the lse are 2e-6 apart, a twentieth of log(1 + e^-10)."""
    hidden = torch.tensor([[20.0]])
    weight = torch.tensor([[1.0], [0.5]])
    for reduction in ("mean", "sum", "none"):
        loss = losses.linear_cross_entropy(hidden, weight, torch.tensor([0]), reduction=reduction)
        assert loss.item() == pytest.approx(4.539889921686465e-05, rel=2e-3)
        arrays = losses.linear_cross_entropy(hidden.numpy(), weight.numpy(), torch.tensor([0]).numpy(), reduction=reduction)
        assert float(np.squeeze(arrays)) == loss.item()


def peak_beyond(call):
    """Bytes of resident memory that a call reaches beyond what there was."""
    status = pathlib.Path("/proc/self/status")

    def resident(name):
        return next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    before = resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    call()
    return resident("VmHWM") - before


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="peaks of memory are read from Linux's /proc")
@pytest.mark.parametrize("renormalize", [True, False])
def test_top_k_distillation_never_holds_the_logits(renormalize):
    rows, width, classes = 2048, 8, 30_000  # logits of 246 MB
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(shape, generator=generator).requires_grad_() for shape in ((rows, width), (classes, width)))

    def step(rows):
        loss = losses.top_k_distillation_loss(
            hidden[:rows], weight, hidden[:rows].detach().flip(1), weight.detach(), k=16, renormalize=renormalize
        )
        loss.backward()

    step(64)  # loads what is loaded late
    assert peak_beyond(lambda: step(rows)) <= 120 << 20
