# Contract: statistics of two heads and their gradients by tiles of logits, as CUDA tensors take them, are those of the definitions in float64 within
# ERROR_BOUNDS, and the CPU's for what is infinite, NaN, ignored or equal. The public functions run here with the kernels' own source, compiled for the
# host; the oracle is that of test_losses_two_heads_torch.py: torch over dense logits in float64.
from __future__ import annotations

import math

import losses_tiles_host
import pytest

torch = pytest.importorskip("torch")

from test_losses_two_heads_torch import ALL, CASES, case, definition, gradients, heads, logits_of, statistics, upstream  # noqa: E402

from slipstick import losses  # noqa: E402

pytestmark = [pytest.mark.torch]
WORKSPACES = (1, 50 * 1024 * 8 * 2, 1 << 26)  # one row, some columns, all at once


@pytest.fixture(scope="module")
def of_cpu():
    """Asked for before the operators are those of CUDA."""
    tensors, targets = adversarial()
    return statistics(tensors, targets)


def adversarial():
    tensors, targets = heads(12, 1100, torch.float32)
    with torch.no_grad():
        tensors[2][7], tensors[5][7] = float("-inf"), float("-inf")  # masked by both
        tensors[0][3], tensors[3][4] = float("nan"), 1e30
        tensors[0][1], tensors[3][1] = float("nan"), float("inf")  # ignored
    return tensors, targets


@pytest.fixture
def on_tiles(monkeypatch):
    losses_tiles_host.in_public_functions(monkeypatch, losses_tiles_host.compiled())


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("dtype", CASES, ids=str)
def test_statistics_are_those_of_the_definitions(on_tiles, dtype, workspace):
    for rows, classes in ((5, 7), (50, 1100), (3, 2049)):
        tensors, targets = heads(rows, classes, dtype)
        exact = [x.detach().double() for x in tensors]
        z, w = logits_of(exact, **CASES[dtype])
        kth = z.topk(max(1, int(0.1 * classes)), 1).values[:, -1:]
        least = torch.minimum(z.amax(1, keepdim=True) + math.log(0.1), kth) - 1e-9
        for options, bar in (({}, None), ({"threshold": 0.1}, least)):
            wanted = definition(z, w, targets, 0.3, 0.6, bar)
            found = statistics(tensors, targets, mixture=0.3, coefficient=0.6, workspace=workspace, **options, **CASES[dtype])
            unit = losses.ERROR_BOUNDS["two_heads_float64" if dtype == torch.float64 else "two_heads_float32"]
            bound = unit * (1 + max(z.abs().max(), w.abs().max()))
            for name in ALL:
                got, want = getattr(found, name).double(), torch.where(targets == -100, 0, wanted[name])
                assert ((got - want).abs() <= bound * (classes if name.startswith("binary") else 1)).all(), name


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("dtype", CASES, ids=str)
def test_gradients_are_those_of_the_definitions(on_tiles, dtype, workspace):
    tensors, targets, wanted = case(dtype)
    found = statistics(tensors, targets, mixture=0.3, coefficient=0.6, workspace=workspace, **CASES[dtype])
    bound = losses.ERROR_BOUNDS[f"gradient_{str(dtype)[6:]}"] * (2 if dtype == torch.bfloat16 else 1)  # rounded as operands, too
    for name in ALL:
        for ours, theirs in zip(gradients(getattr(found, name), upstream(targets), tensors), wanted[name], strict=True):
            assert (ours.double() - theirs).norm() <= bound * theirs.norm(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_of_many_columns_and_of_likely_classes(on_tiles, dtype):
    tensors, targets = heads(9, 2500, dtype)
    exact = [x.detach().double().requires_grad_() for x in tensors]
    z, w = logits_of(exact)
    least = torch.minimum(z.amax(1, keepdim=True) + math.log(0.1), z.topk(250, 1).values[:, -1:]).detach() - 1e-9
    wanted = definition(z, w, targets, 0.7, -0.8, least)
    for workspace in WORKSPACES:
        found = statistics(tensors, targets, mixture=0.7, coefficient=-0.8, threshold=0.1, workspace=workspace)
        for name in ALL:
            for ours, theirs in zip(
                gradients(getattr(found, name), upstream(targets), tensors), gradients(wanted[name], upstream(targets), exact), strict=True
            ):
                assert (ours.double() - theirs).norm() <= losses.ERROR_BOUNDS[f"gradient_{str(dtype)[6:]}"] * theirs.norm(), name


def test_heads_of_different_formats_and_one_head_alone(on_tiles):
    tensors, targets = heads(20, 1200, torch.float32)
    tensors[:2] = [x.detach().bfloat16().requires_grad_() for x in tensors[:2]]
    exact = [x.detach().double().requires_grad_() for x in tensors]
    wanted = definition(*logits_of(exact), targets, 0.5, -1.0)["forward_kl"]
    for alone in (slice(0, 3), slice(3, 6), slice(1, 2)):
        inputs = [x.detach().requires_grad_(i in range(*alone.indices(6))) for i, x in enumerate(tensors)]
        found = statistics(inputs, targets, ("forward_kl",))
        made = gradients(found.forward_kl, upstream(targets), inputs[alone])
        for ours, theirs, x in zip(made, gradients(wanted, upstream(targets), exact[alone]), inputs[alone], strict=True):
            assert ours.dtype == x.dtype and (ours.double() - theirs).norm() <= 2**-7 * theirs.norm()


def test_equal_heads_are_exactly_0_apart(on_tiles):
    tensors, targets = heads(8, 1500, torch.float32, widths=(24, 24))
    found = statistics(tensors[:3] + tensors[:3], targets, ALL[:7])
    for name in ("jensen_shannon", "binary_kl", "binary_kl_norm"):
        assert (getattr(found, name) == 0).all()
    assert (found.forward_kl.abs() <= 1e-6).all() and torch.equal(found.lse, found.second_lse)
    for x in gradients(found.jensen_shannon + found.binary_kl_norm, torch.ones(8), tensors[:3]):
        assert (x == 0).all()


def test_what_is_no_number_is_that_of_the_cpu(of_cpu, on_tiles):
    tensors, targets = adversarial()
    for workspace in WORKSPACES:
        found = statistics(tensors, targets, workspace=workspace)
        for name in ALL:
            got, want = getattr(found, name), getattr(of_cpu, name)
            # Rows of infinite logits are infinity or NaN in both.
            assert torch.equal(got.isfinite(), want.isfinite()), name
            torch.testing.assert_close(got[want.isfinite()], want[want.isfinite()], rtol=1e-5, atol=1e-3)
            assert got[1] == 0
    along = upstream(targets).float()
    along[3] = along[4] = 0  # rows without gradient have none, whatever is in them
    found = statistics(tensors, targets)
    for name in ("forward_kl", "binary_kl", "combined_lse"):
        clean = torch.where(along == 0, 0, getattr(found, name))
        for x in gradients(clean, along, tensors):
            assert x.isfinite().all(), name
            if x.shape[0] == 12:
                assert (x[[1, 3, 4]] == 0).all()


def test_a_target_that_is_no_class_gives_nan_in_its_row(monkeypatch):
    losses_tiles_host.in_public_functions(monkeypatch, losses_tiles_host.compiled())
    from slipstick.losses import _operators

    tensors, targets = heads(6, 40, torch.float32)
    targets[2] = 40
    options = "", 0.0, 1.0, -100, 1 << 20, 1
    arguments = (*(x.detach() for x in tensors), targets, *options)
    for name, more in (("two_head_divergence", ("kl", 0.5)), ("combined_statistics", (None, -1.0))):
        found = _operators.call(name, *arguments, *more)[0]
        assert found.isnan().nonzero()[:, 0].tolist() == [2]
    lse = _operators.call("combined_statistics", *arguments, None, -1.0)[1]
    ones = torch.ones(6, dtype=torch.float64)
    made = _operators.call("combined_statistics_backward", ones, ones, lse, *arguments, None, -1.0, [True, False, False] * 2)
    for x in (made[0], made[3]):
        assert x.isnan().any(1).nonzero()[:, 0].tolist() == [2]


@pytest.mark.parametrize("k", [1, 3, 100, 1100])
def test_the_kth_largest_logit_is_that_of_sorted_ones(on_tiles, k):
    """The products are exact: small whole numbers, with ties."""
    from slipstick.losses import _operators

    torch.manual_seed(0)
    hidden, weight, bias = (torch.randint(-2, 3, shape).float() for shape in ((7, 5), (1100, 5), (1100,)))
    targets = torch.tensor([0, -100, 2, 3, 4, 5, 6])
    hidden[4] = float("nan")
    order = (hidden @ weight.T + bias).double().sort(1, descending=True).values
    for workspace in (1, 20_000, 1 << 26):
        maximum, kth = _operators.call("kth_largest_logit", hidden, weight, bias, targets, "", 0.0, 1.0, -100, workspace, 1, k)
        for got, want in ((maximum, order[:, 0]), (kth, order[:, k - 1])):
            assert got[1] == 0 and got[4].isnan()
            rest = [0, 2, 3, 5, 6]
            assert torch.equal(got[rest], want[rest])


def test_tiles_of_every_size_give_the_same_bits(on_tiles):
    """The products are exact: small whole numbers."""
    torch.manual_seed(1)
    tensors = [torch.randint(-2, 3, shape).float() for shape in ((9, 5), (5000, 5), (5000,), (9, 4), (5000, 4), (5000,))]
    targets = torch.randint(0, 5000, (9,))
    results = [statistics(tensors, targets, workspace=workspace) for workspace in (1, 9 * 1024 * 8, 9 * 2048 * 8, 1 << 26)]
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            assert torch.equal(one, same)


def test_losses_of_two_heads_are_those_of_the_cpu(monkeypatch):
    tensors, targets = heads(30, 1300, torch.float32)
    hidden, weight, _, second_hidden, second_weight, _ = tensors

    def values():
        return losses.logit_difference_cross_entropy(hidden, weight, second_hidden, second_weight, targets, threshold=0.1)

    want = values()
    by_cpu = torch.autograd.grad(want, (hidden, weight))
    losses_tiles_host.in_public_functions(monkeypatch, losses_tiles_host.compiled())
    got = values()
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    for x, y in zip(torch.autograd.grad(got, (hidden, weight)), by_cpu, strict=True):
        assert (x - y).norm() <= 1e-4 * y.norm()
