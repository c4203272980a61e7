# Contract: bfloat16 heads have the statistics of float32 ones, and gradients within ERROR_BOUNDS of float64 as sums of squares over a matrix, on
# levels that multiply pairs of bfloat16 as on all others. There, gradients of cross-entropy are rounded to bfloat16 before the last products,
# all but the large ones, and logits may be kept in 12 bits; so the cases are those where few elements decide, and every size of workspace.
# Oracle: torch in float64 over the whole logits.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import losses

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.kernel]
F = torch.nn.functional
ALL = ("target", "lse", "mean", "second_moment", "expected", "entropy", "maximum")
SHAPES = [(1, 6, 300), (7, 33, 130), (25, 257, 1000), (50, 16, 9001), (400, 8, 70), (97, 48, 1153)]
# Kept logits; some or all in 12 bits, in workspace and in the gradient; none.
WORKSPACES = [None, 8 << 20, 3 << 20, 1 << 18]


def head(rows, width, vocabulary, seed=0):
    torch.manual_seed(seed)
    hidden, weight = torch.randn(rows, width).bfloat16(), (torch.randn(vocabulary, width) * 2 / width**0.5).bfloat16()
    return hidden, weight, torch.randn(vocabulary), torch.randint(0, vocabulary, (rows,))


def logits_of(hidden, weight, bias=None, scale=1.0, softcap=None):
    z = scale * (hidden.double() @ weight.double().T + (0 if bias is None else bias.double()))
    return z if softcap is None else softcap * torch.tanh(z / softcap)


def gradients(function, *tensors):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    value = function(*leaves)
    value.backward()
    return value.item(), [leaf.grad for leaf in leaves]


def check(hidden, weight, bias, targets, workspace=None):
    """Value and gradients of cross-entropy against torch in float64; returns the gradients."""
    tensors = (hidden, weight) if bias is None else (hidden, weight, bias)
    want, exact = gradients(lambda *exact: F.cross_entropy(logits_of(*exact), targets), *(x.double() for x in tensors))
    value, found = gradients(lambda e, c, b=None: losses.linear_cross_entropy(e, c, targets, b, workspace=workspace), *tensors)
    assert abs(value - want) <= 2e-6 * max(1, abs(want))
    for got, of_double in zip(found, exact, strict=True):
        assert ((got.double() - of_double).norm() / of_double.norm()).item() <= losses.ERROR_BOUNDS["gradient_bfloat16"]
    return found


@pytest.mark.parametrize("options", [{}, {"scale": 0.7}, {"softcap": 2.5}], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_match_float64(shape, options):
    hidden, weight, bias, targets = head(*shape)
    z = logits_of(hidden, weight, bias, **options)
    got = losses.row_statistics(hidden, weight, targets, bias=bias, want=ALL, **options)
    lse, p = torch.logsumexp(z, 1), torch.softmax(z, 1)
    wanted = {
        "target": z.gather(1, targets[:, None])[:, 0],
        "lse": lse,
        "mean": z.mean(1),
        "second_moment": z.square().mean(1),
        "expected": (p * z).sum(1),
        "entropy": lse - (p * z).sum(1),
        "maximum": z.max(1).values,
    }
    for name, want in wanted.items():
        size = z.abs().max(1).values ** (2 if name == "second_moment" else 1)
        assert ((getattr(got, name).double() - want).abs() <= 60 * 2.0**-23 * size.clamp(min=1)).all(), name
    assert (got.lse >= got.target).all()


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_match_float64(shape, workspace):
    hidden, weight, bias, targets = head(*shape)
    if shape[0] > 2:
        targets[1::5] = -100
    found = check(hidden, weight, bias, targets, workspace)
    assert not found[0][targets == -100].any()


@pytest.mark.parametrize("options", [{}, {"scale": 0.7}, {"scale": -3.0}, {"softcap": 2.5}], ids=str)
def test_gradients_of_the_statistics_match_float64(options):
    hidden, weight, bias, targets = head(130, 40, 4099)

    def ours(e, c, b):
        rows = losses.row_statistics(e, c, targets, bias=b, want=("target", "lse"), **options)
        return (rows.lse - rows.target).sum()

    _, found = gradients(ours, hidden, weight, bias)
    doubles = hidden.double(), weight.double(), bias.double()
    _, exact = gradients(lambda e, c, b: F.cross_entropy(logits_of(e, c, b, **options), targets, reduction="sum"), *doubles)
    for got, want in zip(found, exact, strict=True):
        assert ((got.double() - want).norm() / want.norm()).item() <= losses.ERROR_BOUNDS["gradient_bfloat16"]


def test_strided_rows_and_odd_addresses():
    """Rows of pairs that start in the middle of a word."""
    hidden, weight, bias, targets = head(60, 41, 1501)
    want = check(hidden, weight, bias, targets)
    padded = torch.zeros(1501, 60).bfloat16()
    padded[:, 3:44] = weight
    wide = torch.zeros(60, 77).bfloat16()
    wide[:, 1:42] = hidden
    _, got = gradients(lambda e, c, b: losses.linear_cross_entropy(e[:, 1:42], c[:, 3:44], targets, b), wide, padded, bias)
    assert torch.equal(got[0][:, 1:42], want[0])
    assert torch.equal(got[1][:, 3:44], want[1])


@pytest.mark.parametrize("margin", [-2.0, 0.0, 3.0, 8.0])
@pytest.mark.parametrize(
    ("vocabulary", "neighbours", "workspace"), [(2, False, None), (3, False, None), (2000, False, 3 << 20), (2000, True, 1 << 20)]
)
def test_rows_where_two_classes_compete(vocabulary, neighbours, workspace, margin):
    """The target's gradient is no larger than one other: rounding that one would show, and so would coarse codes of neighbours' logits."""
    torch.manual_seed(1)
    rows, width = 200, 96
    weight = torch.randn(vocabulary, width).bfloat16()
    targets = torch.randint(0, vocabulary, (rows,))
    others = targets ^ 1 if neighbours else (targets + 1 + torch.randint(0, vocabulary - 1, (rows,))) % vocabulary
    toward = torch.linalg.pinv(torch.stack([weight[targets], weight[others]], 1).double())
    hidden = (toward @ torch.tensor([30.0 + margin, 30.0]).double()).bfloat16()
    check(hidden, weight, None, targets, workspace)


@pytest.mark.parametrize("workspace", WORKSPACES)
def test_well_trained_rows_keep_the_small_gradient_of_their_target(workspace):
    """p is 0.9 to 0.9999: p - 1 has lost its digits where p is rounded first."""
    torch.manual_seed(2)
    weight = torch.randn(5000, 64).bfloat16()
    targets = torch.randint(0, 5000, (120,))
    toward = weight[targets].double()
    hidden = (torch.linspace(16, 24, 120)[:, None] * toward / toward.square().sum(1, keepdim=True)).bfloat16()
    check(hidden, weight, None, targets, workspace)


def test_gradients_that_no_entry_balances_match_float64():
    """lse alone, entropy, smoothing, a strong log Z penalty: nothing to take apart, so nothing may be rounded before the last product."""
    hidden, weight, bias, targets = head(100, 48, 3001)

    def statistic(name):
        return lambda e, c, b: getattr(losses.row_statistics(e, c, bias=b, want=(name,)), name).sum()

    def entropy(z):
        return -(torch.softmax(z, 1) * torch.log_softmax(z, 1)).sum()

    def penalised(e, c, b):
        return F.cross_entropy(logits_of(e, c, b), targets) + 0.05 * torch.logsumexp(logits_of(e, c, b), 1).square().mean()

    cases = [
        (statistic("lse"), lambda e, c, b: torch.logsumexp(logits_of(e, c, b), 1).sum()),
        (statistic("entropy"), lambda e, c, b: entropy(logits_of(e, c, b))),
        (
            lambda e, c, b: losses.linear_cross_entropy(e, c, targets, b, label_smoothing=0.2),
            lambda e, c, b: F.cross_entropy(logits_of(e, c, b), targets, label_smoothing=0.2),
        ),
        (lambda e, c, b: losses.linear_cross_entropy(e, c, targets, b, z_loss=0.05), penalised),
        (
            lambda e, c, b: losses.focal_loss(e, c, targets, bias=b, reduction="sum"),
            lambda e, c, b: sum_of_focal(logits_of(e, c, b), targets),
        ),
    ]

    def sum_of_focal(z, targets):
        u = torch.log_softmax(z, 1).gather(1, targets[:, None])[:, 0]
        return -((1 - u.exp()) ** 2 * u).sum()

    for ours, exact in cases:
        _, got = gradients(ours, hidden, weight, bias)
        _, want = gradients(exact, hidden.double(), weight.double(), bias.double())
        for x, y in zip(got, want, strict=True):
            assert ((x.double() - y).norm() / y.norm()).item() <= losses.ERROR_BOUNDS["gradient_bfloat16"]


@pytest.mark.parametrize("workspace", WORKSPACES)
def test_every_thread_count_gives_the_same_bits(workspace):
    hidden, weight, bias, targets = head(150, 72, 5003)
    targets[::7] = -100
    results = []
    for threads in (1, 2, 3, 8):
        found = losses.row_statistics(hidden, weight, targets, bias=bias, want=ALL, topk=3, threads=threads)
        parts = [getattr(found, name) for name in ALL] + list(found.topk)
        parts += gradients(
            lambda e, c, b, threads=threads: losses.linear_cross_entropy(e, c, targets, b, workspace=workspace, threads=threads),
            hidden,
            weight,
            bias,
        )[1]
        results.append(b"".join(part.contiguous().view(torch.uint8).numpy().tobytes() for part in parts))
    assert len(set(results)) == 1


@pytest.mark.parametrize("workspace", WORKSPACES)
@pytest.mark.parametrize(
    "values",
    [
        np.where(np.arange(5000) == 4999, 1e4, -1e4),
        np.linspace(1e4, -1e4, 5000),
        np.full(777, 3.25),
        np.array([-7.5]),
        np.where(np.arange(4097) == 4096, 30.0, 0.0),
    ],
    ids=["huge", "falling", "all equal", "one class", "maximum in the last column"],
)
def test_adversarial_rows_match_float64(values, workspace):
    weight = torch.zeros(len(values), 5)
    weight[:, 0] = torch.from_numpy(values)
    weight, hidden = weight.bfloat16(), torch.zeros(1, 5).bfloat16()
    hidden[0, 0] = 1
    z = weight[:, 0].double()
    for label in {0, len(values) // 2, len(values) - 1}:
        targets = torch.tensor([label])
        loss, (by_hidden, by_weight) = gradients(
            lambda e, c, targets=targets: losses.linear_cross_entropy(e, c, targets, workspace=workspace), hidden, weight
        )
        p = torch.softmax(z, 0)
        p[label] -= 1
        assert 0 <= loss
        assert abs(loss - (torch.logsumexp(z, 0) - z[label]).item()) <= 4e-6 * max(1, z.abs().max().item())
        assert (by_weight[:, 0].double() - p).abs().max() <= 2.0**-8 * p.abs().max() + 2e-6
        assert (by_hidden[0, 0].double() - p @ z).abs() <= 2.0**-7 * (p.abs() @ z.abs()) + 4e-6 * z.abs().max()


@pytest.mark.parametrize("workspace", WORKSPACES)
def test_a_class_of_bias_minus_infinity_has_no_gradient(workspace):
    hidden, weight, bias, targets = head(120, 32, 4000)
    bias[::2] = -torch.inf
    bias[1024:1088] = -torch.inf  # a whole tile
    targets = torch.where((targets >= 1000) & (targets < 1100), 1, targets | 1)
    loss, found = gradients(lambda e, c, b: losses.linear_cross_entropy(e, c, targets, b, workspace=workspace), hidden, weight, bias)
    assert np.isfinite(loss)
    assert all(x.isfinite().all() for x in found)
    assert not found[1][bias == -torch.inf].any()
    assert not found[2][bias == -torch.inf].any()


def test_nan_stays_in_its_row_and_infinity_is_seen():
    hidden, weight, _, targets = head(60, 16, 3000)
    clean = losses.row_statistics(hidden, weight, want=("lse", "expected"))
    hidden[2, 1] = torch.nan
    found = losses.row_statistics(hidden, weight, want=("lse", "expected"))
    others = torch.arange(60) != 2
    assert found.lse[2].isnan()
    assert torch.equal(found.lse[others], clean.lse[others])
    assert torch.equal(found.expected[others], clean.expected[others])
    _, (by_hidden, by_weight) = gradients(lambda e, c: losses.linear_cross_entropy(e, c, targets, workspace=3 << 20), hidden, weight)
    assert by_hidden[2].isnan().all()
    assert by_hidden[others].isfinite().all()
    assert by_weight.isnan().all()
    bias = torch.zeros(3000)
    bias[17] = torch.inf
    assert (losses.row_statistics(hidden[3:], weight, bias=bias, want=("lse",)).lse == torch.inf).all()


def test_subnormal_operands_count_as_zero_or_exactly():
    """Some processors' products of pairs take them as 0: an error below 2^-126 of the other operand."""
    hidden = torch.full((3, 8), 2.0**-130).bfloat16()
    weight = torch.full((70, 8), 2.0).bfloat16()
    lse = losses.row_statistics(hidden, weight, want=("lse",)).lse.double()
    assert ((lse - np.log(70)).abs() <= 1e-6).all()


def filtered_gradient(hidden, weight, targets, eps):
    """By both, in float64: probabilities below eps are dropped and their sum is spread."""
    z = hidden.double() @ weight.double().T
    p = torch.softmax(z, 1)
    by_z = torch.where(p < eps, 0.0, p)
    by_z = by_z + (p - by_z).sum(1, keepdim=True) / weight.shape[0]
    by_z[torch.arange(len(targets)), targets.clamp(min=0)] -= 1
    by_z[targets == -100] = 0
    by_z = by_z / (targets != -100).sum()
    return by_z @ weight.double(), by_z.T @ hidden.double()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("shape", "eps", "workspace"),
    [
        ((200, 33, 5000), 2.0**-10, 16 << 20),  # what is left is listed, all rows at once
        ((200, 33, 5000), 2.0**-10, 2 << 20),  # in chunks of rows
        ((200, 33, 5000), 2.0**-11, 1 << 18),  # the list overflows
        ((70, 16, 2000), 2.0**-10, 1 << 12),  # at once
        ((90, 8, 200), 2.0**-12, None),  # blocks too full for a list
    ],
)
def test_filtered_gradients_match_float64(kind, shape, eps, workspace):
    hidden, weight, _, targets = head(*shape)
    hidden, weight = hidden.to(kind), weight.to(kind)
    targets[3::7] = -100
    results = []
    for threads in (1, 2, 3, 8):
        _, found = gradients(
            lambda e, c, threads=threads: losses.linear_cross_entropy(e, c, targets, filter_eps=eps, workspace=workspace, threads=threads),
            hidden,
            weight,
        )
        results.append(b"".join(x.view(torch.uint8).numpy().tobytes() for x in found))
    assert len(set(results)) == 1
    want = filtered_gradient(hidden, weight, targets, eps)
    for got, exact in zip(found, want, strict=True):
        # 2e-3: one rounding, and elements at the threshold that rounding takes over it
        assert ((got.double() - exact).norm() / exact.norm()).item() <= 3e-3
