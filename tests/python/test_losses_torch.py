# Contract: the operators of slipstick.losses are torch operators like any other: gradients checked against finite differences in float64 and
# against torch's own cross-entropy, fake kernels, compiled whole, under torch.func and autocast; a second derivative is refused, never 0.
from __future__ import annotations

import numpy as np
import pytest

import slipstick
from slipstick import losses

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.kernel]
F = torch.nn.functional
ALL = ("target", "lse", "mean", "second_moment", "expected", "entropy", "maximum")
OPTIONS = ("", 0.0, 1.0, -100, 1 << 26, 0.0, 1)


def head(rows, width, vocabulary, dtype=torch.float32, bias=True, seed=0):
    torch.manual_seed(seed)
    hidden = torch.randn(rows, width, dtype=torch.float64).to(dtype).requires_grad_()
    weight = (torch.randn(vocabulary, width, dtype=torch.float64) * 2 / width**0.5).to(dtype).requires_grad_()
    bias = torch.randn(vocabulary, dtype=torch.float64).to(dtype).requires_grad_() if bias else None
    targets = torch.randint(0, vocabulary, (rows,))
    targets[1::4] = -100
    return hidden, weight, bias, targets


def relative(got, want):
    return ((got.double() - want).norm() / want.norm()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"label_smoothing": 0.1},
        {"weighted": True},
        {"weighted": True, "label_smoothing": 0.1},
        {"weighted": True, "reduction": "none"},
        {"return_lse": True},
    ],
    ids=str,
)
def test_values_and_gradients_are_those_of_torch_in_float64(dtype, options):
    options = dict(options)
    hidden, weight, bias, targets = head(40, 48, 500, dtype)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = hidden, weight, bias.detach().to(kind).requires_grad_()
    weighted = options.pop("weighted", False)
    class_weight = torch.rand(500, dtype=torch.float64) if weighted else None
    exact = [x.detach().double().requires_grad_() for x in tensors]
    got = losses.linear_cross_entropy(hidden, weight, targets, tensors[2], class_weight=class_weight, **options)
    with_lse = options.pop("return_lse", False)
    z = exact[0] @ exact[1].T + exact[2]
    want = F.cross_entropy(z, targets, weight=class_weight, **options)
    if with_lse:  # gradients of a returned statistic are right, too
        got, lse = got
        shape = torch.linspace(-1, 1, 40, dtype=torch.float64)
        got = got + (lse * shape.to(lse.dtype)).sum()
        want = want + (torch.where(targets != -100, torch.logsumexp(z, 1), 0) * shape).sum()
    assert got.dtype == kind
    assert (got.double() - want).abs().max().item() <= (1e-12 if dtype == torch.float64 else 4e-6) * max(1, want.abs().max().item())
    upstream = torch.rand(got.shape, dtype=got.dtype) if got.ndim else torch.ones((), dtype=got.dtype)
    by_ours = torch.autograd.grad(got, tensors, upstream)
    by_torch = torch.autograd.grad(want, exact, upstream.double())
    bound = losses.ERROR_BOUNDS[f"gradient_{str(dtype).removeprefix('torch.')}"]
    if weighted and "label_smoothing" in options and dtype.itemsize == 2:
        bound *= 2  # two gradients, each rounded, and their sum
    for ours, theirs, tensor in zip(by_ours, by_torch, tensors, strict=True):
        assert ours.dtype == tensor.dtype
        assert relative(ours, theirs) <= bound


@pytest.mark.parametrize("options", [{}, {"softcap": 2.0}, {"logit_map": "stablemax"}, {"scale": -0.6}], ids=str)
def test_gradcheck_of_every_statistic(options):
    """Each output is checked by itself: the Jacobian by hidden, weight, bias and the scale."""
    hidden, weight, bias, targets = head(5, 4, 7, torch.float64)
    factor = torch.tensor(options.pop("scale", 1.3), dtype=torch.float64, requires_grad=True)

    def statistics(hidden, weight, bias, factor):
        found = losses.row_statistics(hidden, weight, targets, bias=bias, want=ALL, topk=3, scale=factor, **options)
        return *(getattr(found, name) for name in ALL), found.topk.values

    assert torch.autograd.gradcheck(statistics, (hidden, weight, bias, factor))


def test_gradcheck_of_cross_entropy():
    hidden, weight, bias, targets = head(6, 4, 9, torch.float64)
    token = torch.rand(6, dtype=torch.float64, requires_grad=True)
    per_class = torch.rand(9, dtype=torch.float64)
    smooth = {"label_smoothing": 0.1, "reduction": "none", "class_weight": per_class, "return_lse": True}
    for options in (
        {},
        {"softcap": 2.0, "label_smoothing": 0.1},
        {"z_loss": 0.3, "reduction": "sum"},
        {"reduction": "none"},
        {"reduction": "none", "softcap": 2.0, "label_smoothing": 0.1, "z_loss": 0.3},
        smooth,
    ):

        def loss(hidden, weight, bias, options=options):
            return losses.linear_cross_entropy(hidden, weight, targets, bias, **options)

        assert torch.autograd.gradcheck(loss, (hidden, weight, bias))

    def weighted(hidden, token):
        return losses.linear_cross_entropy(hidden, weight, targets, token_weight=token)

    assert torch.autograd.gradcheck(weighted, (hidden, token))


def test_only_wanted_gradients_are_made():
    hidden, weight, bias, targets = head(8, 4, 9)
    losses.linear_cross_entropy(hidden, weight.detach(), targets, bias.detach()).backward()
    assert hidden.grad is not None
    losses.linear_cross_entropy(hidden.detach(), weight, targets, reduction="none").sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert not losses.linear_cross_entropy(hidden, weight, targets).requires_grad


def test_a_second_derivative_is_refused():
    hidden, weight, _, targets = head(6, 4, 9)
    for loss in (losses.linear_cross_entropy(hidden, weight, targets), losses.row_statistics(hidden, weight, targets).lse.sum()):
        (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
        with pytest.raises(RuntimeError, match="a gradient of a gradient is asked for; expected one backward"):
            gradient.sum().backward()


def test_backward_twice_gives_the_same_gradient():
    hidden, weight, bias, targets = head(6, 4, 9)
    loss = losses.linear_cross_entropy(hidden, weight, targets, bias)
    first = torch.autograd.grad(loss, (hidden, weight, bias), retain_graph=True)
    doubled = torch.autograd.grad(2 * loss, (hidden, weight, bias))
    assert all(torch.equal(2 * one, two) for one, two in zip(first, doubled, strict=True))


def factor():
    return torch.tensor(0.7, dtype=torch.float64, requires_grad=True)


def two_heads(h, w, b, t):
    return h, w, b, h.detach().flip(0)[:, :3], w.flip(0)[:, :3], None, t, "softcap", 9.0, 0.7, -100, 1 << 20, 1


def no_gradient(arguments):
    return tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in arguments)


def numbers(h, count):
    return [torch.linspace(1, 2, len(h)).double() for _ in range(count)]


OPERATORS = {
    "row_statistics": lambda h, w, b, t: (h, w, t, b, factor(), 127, 3, *OPTIONS),
    "row_statistics_backward": lambda h, w, b, t: (
        *(h.detach(), w.detach(), t, b.detach(), factor().detach(), *2 * (torch.ones(len(h)).double(),), None, None, None),
        *(t[:, None], torch.ones(len(h), 1).double(), True, True, True, True, *OPTIONS),
    ),
    "cross_entropy_and_gradients": lambda h, w, b, t: (
        h,
        w,
        t,
        b,
        torch.ones(len(h)).double(),
        0.0,
        0.0,
        False,
        True,
        True,
        True,
        *OPTIONS,
    ),
    "scaled_gradient": lambda h, w, b, t: (w.detach(), torch.tensor(2.0).double(), h.detach(), w.detach(), None),
    "counted_labels": lambda h, w, b, t: (t, len(w), -100, "here: targets"),
    "gathered_logits": lambda h, w, b, t: (h, w, t.clamp(min=0)[:, None].repeat(1, 2)),
    "gathered_logits_backward": lambda h, w, b, t: (torch.ones(len(h), 1), h.detach(), w.detach(), t.clamp(min=0)[:, None], True, True),
    "row_losses": lambda h, w, b, t: (
        *(h, w, b, t, t != -100, None, "_robust:ldr_k_kl_losses", [0.5, 1.5, 2.0]),
        *(False, 3.0, 0.5, 2),
    ),
    "row_losses_backward": lambda h, w, b, t: (
        *(torch.ones(len(h)), h.detach(), w.detach(), b.detach(), t, t != -100, None),
        *("_dice:all_class_losses", [1.0, 0.5], False, 0.0, 0.5, 2, [True, True, True]),
    ),
    "two_head_divergence": lambda h, w, b, t: (*two_heads(h, w, b, t), "kl", 0.5),
    "two_head_divergence_backward": lambda h, w, b, t: (
        *(*numbers(h, 3), None, *numbers(h, 4), *no_gradient(two_heads(h, w, b, t)), "kl", 0.5),
        [True, False, True, True, True, False],
    ),
    "combined_statistics": lambda h, w, b, t: (*two_heads(h, w, b, t), *numbers(h, 1), 0.5),
    "combined_statistics_backward": lambda h, w, b, t: (
        *(*numbers(h, 3), *no_gradient(two_heads(h, w, b, t)), *numbers(h, 1), 0.5),
        [True, False, True, True, True, False],
    ),
    "kth_largest_logit": lambda h, w, b, t: (*no_gradient((h, w, b)), t, "", 0.0, 0.7, -100, 1 << 20, 1, 3),
}


@pytest.fixture
def registered():
    """Functions import what registers their operators when they are called, which other tests need not have done."""
    from slipstick.losses import _formula_operators, _operators, _torch, _two_heads  # noqa: F401

    return _operators._FUNCTIONS


def test_every_operator_is_in_the_list(registered):
    names = {name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names() if name.startswith("slipstick::")}
    assert names >= set(OPERATORS)
    assert set(registered) == set(OPERATORS)


@pytest.mark.parametrize("rows", [6, 0])
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name, rows, registered):
    arguments = OPERATORS[name](*head(rows, 4, 9))
    results = torch.library.opcheck(getattr(torch.ops.slipstick, name).default, arguments)
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_whole_and_under_torch_func(reduction):
    hidden, weight, bias, targets = head(6, 4, 9)

    def loss(hidden, weight, bias):
        return losses.linear_cross_entropy(hidden, weight, targets, bias, reduction=reduction).sum()

    want = torch.autograd.grad(loss(hidden, weight, bias), (hidden, weight, bias))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(hidden, weight, bias), loss(hidden, weight, bias))
    got = torch.autograd.grad(compiled(hidden, weight, bias), (hidden, weight, bias))
    assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))
    got = torch.func.grad(loss, (0, 1, 2))(hidden, weight, bias)
    assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))
    heads = torch.stack([weight.detach(), 2 * weight.detach(), -weight.detach()])
    batch = torch.func.vmap(loss, (None, 0, None))(hidden, heads, bias)
    assert torch.equal(batch, torch.stack([loss(hidden, one, bias) for one in heads]))
    by_head = torch.func.vmap(torch.func.grad(loss, 1), (None, 0, None))(hidden, heads, bias)
    assert torch.equal(by_head[0], want[1])


def test_autocast_gives_the_operands_of_a_linear_layer():
    hidden, weight, _, targets = head(20, 16, 50)
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses.linear_cross_entropy(hidden, weight, targets)
    want = losses.linear_cross_entropy(hidden.detach().bfloat16(), weight.detach().bfloat16(), targets)
    assert loss.item() == want.item()
    loss.backward()
    assert hidden.grad.dtype == torch.float32


def test_the_module_and_the_arrays_agree_with_the_function():
    hidden, weight, bias, targets = head(12, 8, 30)
    module = losses.LinearCrossEntropy(softcap=3.0, reduction="sum", label_smoothing=0.1)
    loss = module(hidden, weight, targets, bias)
    assert "softcap=3.0" in repr(module)
    arrays = [x.detach().numpy() for x in (hidden, weight, targets, bias)]
    value, *gradients = losses.linear_cross_entropy_and_grad(*arrays, softcap=3.0, reduction="sum", label_smoothing=0.1)
    assert value == loss.item()
    by_torch = torch.autograd.grad(loss, (hidden, weight, bias))
    assert all((x.numpy() == y).all() for x, y in zip(by_torch, gradients, strict=True))
    assert np.isclose(losses.linear_cross_entropy(*arrays, softcap=3.0, reduction="sum", label_smoothing=0.1), value, rtol=1e-6)


def test_layouts_and_threads_give_the_same_bits():
    hidden, weight, bias, targets = head(33, 24, 9000)  # enough work for several threads
    want = losses.linear_cross_entropy(hidden, weight, targets, bias, reduction="none")
    wide = torch.zeros(9000, 50)
    wide[:, 3:27] = weight.detach()
    for other in (wide[:, 3:27], weight.detach().T.contiguous().T):
        assert torch.equal(losses.linear_cross_entropy(hidden, other, targets, bias, reduction="none"), want)
    assert torch.equal(losses.linear_cross_entropy(hidden[:1].expand(33, -1), weight, targets, bias, reduction="none")[0], want[0])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(losses.linear_cross_entropy(hidden, weight, targets, bias, reduction="none"), want)
    finally:
        torch.set_num_threads(before)
    slipstick.set_num_threads(3)
    try:
        assert torch.equal(losses.linear_cross_entropy(hidden, weight, targets, bias, reduction="none"), want)
    finally:
        slipstick.set_num_threads(None)


def test_what_a_filter_dropped_is_that_of_arrays():
    hidden, weight, bias, targets = head(12, 8, 300)
    options = {"filter_eps": 1e-2, "return_dropped": True, "reduction": "sum"}
    loss, dropped = losses.linear_cross_entropy(hidden, weight, targets, bias, **options)
    arrays = [x.detach().numpy() for x in (hidden, weight, targets, bias)]
    assert (dropped.numpy() == losses.linear_cross_entropy_and_grad(*arrays, **options)[4]).all()
    assert dropped.max() > 0.1
    assert not dropped.requires_grad
    loss.backward()
    for wrong in ({"reduction": "none"}, {"return_lse": True}):
        with pytest.raises(ValueError, match="return_dropped where gradients are not computed with the loss"):
            losses.linear_cross_entropy(hidden, weight, targets, **{**options, **wrong})
    with pytest.raises(ValueError, match="return_dropped where no gradient is asked for"), torch.no_grad():
        losses.linear_cross_entropy(hidden, weight, targets, **options)


def test_shifted_losses_have_the_shape_of_the_rows_that_predict():
    hidden, weight, _, _ = head(20, 8, 30)
    e, targets = hidden.reshape(2, 10, 8), torch.arange(20).reshape(2, 10)
    targets[1, 4] = -100
    z = e[:, :-3].detach().double() @ weight.detach().double().T
    want = F.cross_entropy(z.flatten(0, 1), targets[:, 3:].flatten(), reduction="none").reshape(2, 7)
    loss, lse = losses.linear_cross_entropy(e, weight, targets, None, -100, None, "none", 3, True)
    assert torch.allclose(loss.double(), want, atol=1e-5)
    assert torch.allclose(lse.double(), torch.where(targets[:, 3:] != -100, torch.logsumexp(z, -1), 0), atol=1e-5)


def test_a_profile_shows_the_operators():
    hidden, weight, bias, targets = head(12, 8, 30)
    with torch.autograd.profiler.profile() as profile:
        losses.linear_cross_entropy(hidden, weight, targets, bias).backward()
    assert any(event.name == "slipstick::cross_entropy_and_gradients" for event in profile.function_events)


def test_bad_tensors_are_named():
    hidden, weight, bias, targets = head(3, 4, 5)
    bad = targets.clone()
    bad[0] = 5
    for call, kind, message in [
        (lambda: losses.linear_cross_entropy(hidden, weight, bad), IndexError, r"targets\[0\] is 5; expected 0 to 4, or -100"),
        (lambda: losses.row_statistics(hidden, weight.double(), targets), TypeError, "weight has dtype float64; expected float32"),
        (lambda: losses.row_statistics(hidden, weight, targets.int()), TypeError, "targets has dtype int32; expected int64"),
        (
            lambda: losses.row_statistics(hidden, weight.detach().numpy(), targets),
            TypeError,
            "weight is a ndarray; expected a torch.Tensor",
        ),
        (lambda: losses.row_statistics(hidden, weight, targets, bias=bias[:2]), ValueError, r"bias has shape \(2,\)"),
        (lambda: losses.linear_cross_entropy_and_grad(hidden, weight, targets), TypeError, "e is a torch.Tensor"),
        (
            lambda: losses.linear_cross_entropy(hidden, weight, targets, softcap=1.0, label_smoothing=0.1, class_weight=torch.rand(5)),
            ValueError,
            "class_weight with softcap and label_smoothing",
        ),
    ]:
        with pytest.raises(kind, match=message):
            call()
