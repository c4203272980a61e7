# Contract: statistics and gradients by tiles of logits, as CUDA tensors take them, are those of the definitions: within the room's bounds of a
# float64 oracle, the same bits for tiles of every size, with the CPU's fate of NaN, infinities, ignored rows and ties. Everything but the launch runs
# here: the operators' Python with the kernels' own source, compiled for the host; the oracle is torch in float64 and shares no code with them.
from __future__ import annotations

import losses_tiles_host
import pytest

from slipstick import losses

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch]

NAMES = ("target", "lse", "mean", "second_moment", "expected", "maximum", "argmax")
ALL = (1 << len(NAMES)) - 1
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHAPES = [(1, 3, 1), (5, 16, 7), (3, 8, 1023), (7, 33, 1025), (12, 48, 3000), (2, 0, 9), (0, 4, 5)]
MAPS = [("", 0.0), ("softcap", 3.0), ("stablemax", 0.0)]


@pytest.fixture
def operators(monkeypatch):
    return losses_tiles_host.cuda_operators(monkeypatch, losses_tiles_host.compiled())


def head(rows, width, vocabulary, dtype, seed=0):
    torch.manual_seed(seed)
    hidden = torch.randn(rows, width, dtype=torch.float64).to(dtype)
    weight = (torch.randn(vocabulary, width, dtype=torch.float64) * 2 / max(1, width) ** 0.5).to(dtype)
    bias = torch.randn(vocabulary, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, vocabulary, (rows,))
    targets[1::4] = -100
    return hidden, weight, targets, bias


def options(map=("", 0.0), scale=1.0, workspace=1 << 26, filter_eps=0.0):
    return (*map, scale, -100, workspace, filter_eps, 1)


def logits(hidden, weight, bias, map, scale):
    z = scale * (hidden @ weight.T + (0 if bias is None else bias))
    if map[0] == "softcap":
        return map[1] * torch.tanh(z / map[1])
    return z.sign() * torch.log1p(z.abs()) if map[0] == "stablemax" else z


def exact_statistics(z, targets):
    p = torch.softmax(z, 1)
    found = [
        z.gather(1, targets.clamp(min=0)[:, None])[:, 0], torch.logsumexp(z, 1), z.mean(1), (z * z).mean(1), (p * z).sum(1), z.amax(1)
    ]  # fmt: skip
    ignored = targets == -100
    return [x.masked_fill(ignored, 0) for x in found], z.argmax(1).masked_fill(ignored, -1)


def close(got, want, dtype):
    """Within some units of the sums' type of what is added up."""
    unit = 2.0**-50 if dtype == torch.float64 else 2.0**-21
    return ((got - want).abs() <= unit * (1 + want.abs()) * 16).all()


@pytest.mark.parametrize("map", MAPS, ids=lambda map: map[0] or "none")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_statistics_are_those_of_float64(operators, dtype, shape, map):
    hidden, weight, targets, bias = head(*shape, dtype)
    if shape[0] == 0:
        found = operators._row_statistics(hidden, weight, targets, bias, None, ALL, 0, *options(map))
        assert [x.shape[0] for x in found[:-2]] == [0] * len(NAMES)
        return
    factor = torch.tensor(0.5, dtype=torch.float64)
    want, argmax = exact_statistics(logits(hidden.double(), weight.double(), bias.double(), map, -0.35), targets)
    for workspace in (1, 5000, 1 << 26):  # one row, some rows, all of them at once
        found = operators._row_statistics(hidden, weight, targets, bias, factor, ALL, 0, *options(map, -0.7, workspace))
        for name, got, exact in zip(NAMES, found, want, strict=False):
            assert got.dtype == torch.float64 and close(got, exact, dtype), name
        assert torch.equal(found[6], argmax)
        lean = operators._row_statistics(hidden, weight, targets, bias, factor, 0b0100011, 0, *options(map, -0.7, workspace))
        assert torch.equal(lean[0], found[0]) and torch.equal(lean[1], found[1]) and lean[2].numel() == 0
        assert (found[1] >= found[0]).all()


def test_tiles_of_every_size_give_the_same_bits(operators):
    """The products are exact: small integers."""
    torch.manual_seed(1)
    hidden, weight = torch.randint(-3, 4, (9, 5)).float(), torch.randint(-3, 4, (5000, 5)).float()
    targets = torch.randint(0, 5000, (9,))
    upstream = torch.rand(9, dtype=torch.float64)
    results = []
    for workspace in (1, 4096, 9 * 1024 * 4, 9 * 2048 * 4, 1 << 26):
        found = operators._row_statistics(hidden, weight, targets, None, None, ALL, 0, *options(workspace=workspace))
        index, value = targets[:, None], -upstream[:, None]
        of = (found[1], upstream, None, None, None, index, value)
        made = operators._row_statistics_backward(
            hidden, weight, targets, None, None, *of, False, True, False, False, *options(workspace=max(workspace, 9 * 1024 * 4))
        )
        results.append((*found[:7], made[1]))
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            assert torch.equal(one, same)


@pytest.mark.parametrize("map", MAPS, ids=lambda map: map[0] or "none")
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_are_those_of_float64(operators, dtype, with_bias, map):
    for shape in ((5, 16, 7), (7, 33, 1025), (9, 48, 3000)):
        hidden, weight, targets, bias = head(*shape, dtype)
        bias = bias if with_bias else None
        factor = torch.tensor(-0.7, dtype=torch.float32)
        exact = [x.to(torch.float64, copy=True).requires_grad_() for x in (hidden, weight, *([bias] if with_bias else []), factor)]
        z = logits(exact[0], exact[1], exact[2] if with_bias else None, map, exact[-1])
        (target, lse, mean, second, expected, maximum), argmax = exact_statistics(z, targets)
        torch.manual_seed(3)
        by = {name: torch.randn(shape[0], dtype=torch.float64) for name in NAMES[:-1]}
        parts = {"target": target, "lse": lse, "mean": mean, "second_moment": second, "expected": expected, "maximum": maximum}
        wanted = torch.autograd.grad(sum((by[name] * part).sum() for name, part in parts.items()), exact)
        vocabulary = shape[2]
        found = operators._row_statistics(hidden, weight, targets, bias, factor, ALL, 0, *options(map))
        a = by["lse"] + by["expected"] * (1 - found[4])
        index = torch.stack((targets, argmax), 1)
        value = torch.stack((by["target"], by["maximum"]), 1)
        of = (found[1], a, by["expected"], 2 * by["second_moment"] / vocabulary, by["mean"] / vocabulary, index, value)
        for workspace in (1, 9 * 1024 * 6, 1 << 26):
            made = operators._row_statistics_backward(
                hidden, weight, targets, bias, factor, *of, True, True, with_bias, True, *options(map, workspace=workspace)
            )
            kinds = [
                hidden.dtype,
                weight.dtype,
                *([found[1].dtype if dtype == torch.float64 else torch.float32] * with_bias),
                torch.float64,
            ]
            bound = losses.ERROR_BOUNDS[f"gradient_{str(dtype).removeprefix('torch.')}"]
            bound *= 2 if dtype == torch.bfloat16 else 1  # rounded as operands, too
            made = [x for x in made if x.numel()]
            for got, want, kind in zip(made, wanted, kinds, strict=True):
                assert got.dtype == kind
                if want.ndim == 0:  # a sum that may cancel, of products of the rounded gradient
                    terms = (hidden.double() * wanted[0]).abs().sum() / 0.7
                    assert (got - want).abs() <= max(bound, 1e-6 if dtype != torch.float64 else 0) * terms
                else:
                    assert ((got.double() - want).norm() <= bound * want.norm()).item()


def test_unwanted_gradients_are_not_made(operators):
    hidden, weight, targets, bias = head(6, 4, 50, torch.bfloat16)
    ones = torch.ones(6, dtype=torch.float64)
    of = (ones, ones, None, None, None, None, None)
    for need in [(True, False, False), (False, True, False), (False, False, True), (False, False, False)]:
        made = operators._row_statistics_backward(hidden, weight, targets, bias, None, *of, *need, False, *options())
        assert [x.numel() > 0 for x in made] == [*need, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nan_infinities_and_ignored_rows_have_the_fate_of_the_cpu(operators, dtype):
    hidden, weight, targets, bias = head(8, 6, 1500, dtype)
    targets[:] = torch.arange(8) * 3
    targets[5] = -100
    hidden[2], hidden[5] = float("nan"), float("nan")
    bias[700], bias[1400] = float("-inf"), float("-inf")
    want = ("target", "lse", "mean", "expected", "maximum", "argmax")
    for extra in (None, 3):
        if extra is not None:
            bias[extra] = float("inf")
        cpu = losses.row_statistics(hidden, weight, targets, bias=bias, want=want, threads=1)
        found = dict(zip(NAMES, operators._row_statistics(hidden, weight, targets, bias, None, ALL, 0, *options()), strict=False))
        for name in want[:-1]:
            torch.testing.assert_close(found[name].to(dtype), getattr(cpu, name), equal_nan=True, rtol=1e-5, atol=1e-5)
        assert found["argmax"][5] == -1 and found["lse"][5] == 0
    bias[3] = 0.0
    inputs = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
    cpu = losses.row_statistics(inputs[0], inputs[1], targets, bias=inputs[2], want=("target", "lse"), threads=1)
    upstream = torch.linspace(1, 2, 8, dtype=torch.float64)
    upstream[2] = 0  # the row that is NaN
    by_cpu = torch.autograd.grad(((cpu.lse - cpu.target).double() * upstream).sum(), inputs)
    found = operators._row_statistics(hidden, weight, targets, bias, None, 0b11, 0, *options())
    of = (found[1], upstream, None, None, None, targets[:, None], -upstream[:, None])
    made = operators._row_statistics_backward(hidden, weight, targets, bias, None, *of, True, True, True, False, *options())
    torch.testing.assert_close(made[0][[0, 1, 3, 4, 5, 6, 7]], by_cpu[0][[0, 1, 3, 4, 5, 6, 7]], rtol=1e-4, atol=1e-5)
    assert (made[0][5] == 0).all() and made[0][2].isnan().all()


def test_an_empty_softmax_is_minus_infinity(operators):
    hidden, weight, targets, _ = head(3, 4, 20, torch.float32)
    bias = torch.full((20,), float("-inf"))
    targets[:] = 1
    found = operators._row_statistics(hidden, weight, targets, bias, None, 0b11, 0, *options())
    assert (found[1] == float("-inf")).all()


def test_the_lowest_of_equal_maxima_is_taken(operators):
    hidden, weight = torch.ones(4, 1), torch.zeros(5000, 1)
    for places in ([4999], [17, 18], [1023, 1024], [3, 2050, 4100], [31, 32]):
        weight.zero_()
        weight[places] = 1
        found = operators._row_statistics(hidden, weight, None, None, None, 0b1100010, 0, *options(workspace=20000))
        assert (found[6] == places[0]).all()


def test_a_target_that_is_no_class_gives_nan_and_nothing_else(operators):
    hidden, weight, targets, bias = head(6, 4, 30, torch.float32)
    targets[:] = torch.tensor([0, 30, -1, -100, 2, 29])
    found = operators._row_statistics(hidden, weight, targets, bias, None, 0b11, 0, *options())
    assert found[0].isnan().tolist() == [False, True, True, False, False, False] and not found[1].isnan().any()
    ones = torch.ones(6, dtype=torch.float64)
    of = (found[1], ones, None, None, None, targets[:, None], -ones[:, None])
    made = operators._row_statistics_backward(hidden, weight, targets, bias, None, *of, True, False, False, False, *options())
    assert made[0].isnan().any(1).tolist() == [False, True, True, False, False, False]


def test_rows_apart_and_columns_apart_are_read(operators):
    hidden, weight, targets, bias = head(6, 8, 40, torch.float32)
    want = operators._row_statistics(hidden, weight, targets, bias, None, ALL, 0, *options())
    wide = torch.zeros(6, 20)
    wide[:, 3:11] = hidden
    got = operators._row_statistics(wide[:, 3:11], weight.T.contiguous().T, targets, bias, None, ALL, 0, *options())
    for one, other in zip(want, got, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spread", [1, 3, 1000], ids=["ties", "some ties", "few ties"])
def test_the_largest_logits_are_those_of_the_cpu(operators, dtype, spread):
    """The products are exact: whole numbers of two factors."""
    torch.manual_seed(2)
    for rows, vocabulary, counts in ((3, 1, (1,)), (5, 40, (1, 2, 39, 40)), (4, 513, (1, 33, 256)), (3, 5003, (1, 5, 64, 255, 256))):
        hidden = torch.tensor([[1.0, 3.0]]).to(dtype).expand(rows, 2).contiguous()
        weight = torch.randint(-spread, spread + 1, (vocabulary, 2)).to(dtype)
        if dtype in (torch.bfloat16, torch.float16):
            weight = weight.clamp(-256, 256)
        bias, targets = torch.randint(-3, 4, (vocabulary,)).to(dtype), torch.randint(0, vocabulary, (rows,))
        targets[1] = -100
        for count in counts:
            want = losses.row_statistics(hidden.double(), weight.double(), targets, bias=bias.double(), topk=count).topk
            for workspace in (1, 30_000, 1 << 26):
                *_, values, indices = operators._row_statistics(
                    hidden, weight, targets, bias, None, 0, count, *options(workspace=workspace)
                )
                assert torch.equal(values, want.values) and torch.equal(indices, want.indices)
                assert (indices[1] == -1).all() and values.dtype == torch.float64


@pytest.mark.parametrize("rising", [True, False])
def test_rising_and_falling_logits_fill_the_list_in_full(operators, rising):
    weight = torch.arange(4000.0)[:, None] * (1 if rising else -1)
    *_, values, indices = operators._row_statistics(torch.ones(1, 1), weight, None, None, None, 0, 256, *options())
    order = torch.arange(3999, 3743, -1) if rising else torch.arange(256)
    assert torch.equal(indices[0], order) and torch.equal(values[0], weight[order, 0].double())


def test_what_is_no_number_is_no_largest_logit(operators):
    bias = torch.zeros(1500)
    bias[100:1400], bias[7], bias[1450], bias[1451] = float("nan"), float("inf"), float("-inf"), 5.0
    hidden, weight = torch.zeros(1, 1), torch.zeros(1500, 1)
    *_, values, indices = operators._row_statistics(hidden, weight, None, bias, None, 0, 256, *options())
    zeros = [column for column in range(1500) if bias[column] == 0]
    assert indices[0].tolist() == [7, 1451, *zeros, 1450, *[-1] * 56]
    assert values[0, :2].tolist() == [float("inf"), 5.0] and values[0, 199] == float("-inf")
    assert (values[0, 2:199] == 0).all() and values[0, 200:].isnan().all()


# ---- filter_eps -------------------------------------------------------------------------------------------------------------------------------


def filtered(z, upstream, targets, share, map):
    """Gradient of upstream (lse - target) by the logits before the map and without their scale, what was dropped, and a bound that drops about a share
    of the elements; the definition, in float64.
    """
    slope = 1 - (z / map[1]) ** 2 if map[0] == "softcap" else torch.exp(-z.abs()) if map[0] == "stablemax" else torch.ones_like(z)
    element = torch.softmax(z, 1) * slope
    order = element.flatten().sort().values
    order = order[int((share - 0.2) * len(order)) : int(share * len(order)) + 2]
    at = (order[1:] / order[:-1]).argmax()
    eps = float(order[at] + order[at + 1]) / 2  # near no element
    small = element < eps
    element = element * upstream[:, None]
    dropped = torch.where(small, element, 0).sum(1)
    dz = torch.where(small, 0, element) + dropped[:, None] / z.shape[1]
    dz.scatter_add_(1, targets.clamp(min=0)[:, None], -(upstream[:, None] * slope.gather(1, targets.clamp(min=0)[:, None])))
    return dz.masked_fill((targets == -100)[:, None], 0), dropped.masked_fill(targets == -100, 0), eps


@pytest.mark.parametrize("map", MAPS, ids=lambda map: map[0] or "none")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_filter_drops_what_the_definition_drops_and_spreads_it(operators, dtype, map):
    for shape, share in (((5, 16, 7), 0.3), ((9, 33, 1025), 0.9), ((12, 48, 3000), 0.99)):
        hidden, weight, targets, bias = head(*shape, dtype)
        upstream = torch.linspace(0.5, 1.5, shape[0], dtype=torch.float64)
        exact = [x.double() for x in (hidden, weight, bias)]
        z = logits(*exact, map, 0.7)
        dz, dropped, eps = filtered(z, upstream, targets, share, map)
        want = 0.7 * dz @ exact[1], 0.7 * dz.T @ exact[0], 0.7 * dz.sum(0)
        found = operators._row_statistics(hidden, weight, targets, bias, None, 0b11, 0, *options(map, 0.7))
        factor = torch.tensor(0.5, dtype=torch.float64)
        of = (found[1], upstream, None, None, None, targets[:, None], -upstream[:, None])
        bound = losses.ERROR_BOUNDS[f"gradient_{str(dtype).removeprefix('torch.')}"] * (2 if dtype.itemsize == 2 else 1)
        for workspace in (1, 9 * 1024 * 6, 1 << 26):
            made = operators._row_statistics_backward(
                hidden, weight, targets, bias, factor, *of, True, True, True, False, *options(map, 1.4, workspace, eps)
            )
            for got, exact_one in zip(made[:3], want, strict=True):
                assert (got.double() - exact_one).norm() <= bound * exact_one.norm()
        total, mass, *_ = operators._cross_entropy(
            hidden, weight, targets, bias, upstream, 0.0, 0.0, False, True, True, True, *options(map, 0.7, 9 * 1024 * 6, eps)
        )
        want_total = (upstream * (torch.logsumexp(z, 1) - z.gather(1, targets.clamp(min=0)[:, None])[:, 0]))[targets != -100].sum()
        assert abs(total - want_total) <= 1e-5 * want_total
        assert ((mass - dropped / upstream).abs() <= (1e-12 if dtype == torch.float64 else 1e-5)).all()
        assert (mass[targets == -100] == 0).all()


def test_the_sum_of_a_filtered_gradient_is_that_of_the_exact_one(operators):
    hidden, weight, targets, _ = head(9, 24, 2500, torch.float64)
    ones = torch.ones(9, dtype=torch.float64)
    bias = torch.zeros(2500, dtype=torch.float64)
    found = operators._row_statistics(hidden, weight, targets, bias, None, 0b11, 0, *options())
    of = (found[1], ones, None, None, -ones / 5000, targets[:, None], -0.5 * ones[:, None])
    sums = []
    for eps in (0.0, 1e-3):
        made = operators._row_statistics_backward(
            hidden, weight, targets, bias, None, *of, True, True, True, False, *options(filter_eps=eps)
        )
        sums.append((made[1].sum(0), made[2].sum()))
        other = operators._row_statistics_backward(
            hidden, weight, targets, bias, None, *of, True, True, True, False, *options(filter_eps=eps, workspace=9 * 1024 * 8)
        )
        assert all((one - two).norm() <= 1e-13 * one.norm() for one, two in zip(made[:3], other, strict=False))
    for one, other in zip(*sums, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_filter_is_that_of_the_cpu(operators):
    """d and label smoothing travel with it; c, and d behind a map, switch it off."""
    hidden, weight, targets, bias = head(8, 12, 1500, torch.float64)
    torch.manual_seed(4)
    by = {name: torch.rand(8, dtype=torch.float64) for name in ("lse", "expected", "mean", "second_moment")}
    for want, map in ((("lse", "expected", "mean"), {}), (("lse", "second_moment"), {}), (("lse", "mean"), {"softcap": 3.0})):
        inputs = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        cpu = losses.row_statistics(*inputs[:2], targets, bias=inputs[2], want=want, filter_eps=1e-3, threads=1, **map)
        wanted = torch.autograd.grad(sum((getattr(cpu, name) * by[name]).sum() for name in want), inputs)
        core = ("softcap", 3.0) if map else ("", 0.0)
        found = operators._row_statistics(hidden, weight, targets, bias, None, ALL, 0, *options(core))
        a, b, c, d = by["lse"], None, None, by["mean"] / 1500 if "mean" in want else None
        if "expected" in want:
            a, b = a + by["expected"] * (1 - found[4]), by["expected"]
        if "second_moment" in want:
            c = 2 * by["second_moment"] / 1500
        of = (found[1], a, b, c, d, None, None)
        made = operators._row_statistics_backward(
            hidden, weight, targets, bias, None, *of, True, True, True, False, *options(core, filter_eps=1e-3)
        )
        for got, exact in zip(made, wanted, strict=False):
            assert (got - exact).norm() <= 1e-12 * exact.norm()


@pytest.mark.parametrize("arguments", [{}, {"label_smoothing": 0.1}, {"z_loss": 1e-2, "reduction": "sum"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_cross_entropy_tells_what_was_dropped_as_the_cpu_does(monkeypatch, dtype, arguments):
    hidden, weight, targets, bias = head(20, 24, 2100, dtype)
    token_weight = torch.linspace(0, 1, 20)

    def step(filter_eps):
        inputs = [x.clone().requires_grad_() for x in (hidden, weight, bias)]
        loss, dropped = losses.linear_cross_entropy(
            *inputs[:2], targets, inputs[2], token_weight=token_weight, filter_eps=filter_eps, return_dropped=True, **arguments
        )
        return loss.detach(), dropped, torch.autograd.grad(loss * 2, inputs)

    cpu = {eps: step(eps) for eps in (None, 1e-3)}
    losses_tiles_host.in_public_functions(monkeypatch, losses_tiles_host.compiled())
    bound = losses.ERROR_BOUNDS[f"gradient_{str(dtype).removeprefix('torch.')}"] * (4 if dtype.itemsize == 2 else 1)
    for eps, (loss, dropped, gradients) in cpu.items():
        got, mass, made = step(eps)
        torch.testing.assert_close(got, loss)
        torch.testing.assert_close(mass, dropped, rtol=1e-4, atol=0 if dtype == torch.float64 else 1e-3)
        assert (mass > 0).sum() == (0 if eps is None else (targets != -100).sum() - (targets[0] != -100).int())
        for x, y in zip(made, gradients, strict=True):
            assert (x.double() - y.double()).norm() <= max(bound, 0 if dtype == torch.float64 else 1e-4) * y.double().norm()


def test_the_mean_of_nothing_is_nan_and_has_no_gradient(operators):
    hidden, weight, targets, bias = head(3, 4, 5, torch.float32)
    targets[:] = -100
    total, dropped, *made = operators._cross_entropy(
        hidden, weight, targets, bias, None, 0.1, 0.0, True, True, True, True, *options(filter_eps=0.1)
    )
    assert total.isnan() and (dropped == 0).all() and all((x == 0).all() for x in made)


def test_tiles_keep_to_the_workspace():
    from slipstick.losses import _tiles

    for rows, vocabulary, each, workspace in (
        (8192, 256000, 6, 1 << 28),
        (1, 50257, 4, 1 << 26),
        (1 << 20, 128256, 6, 1 << 26),
        (3, 10, 4, 1),
    ):
        high, wide = _tiles.tile_shape(rows, vocabulary, each, workspace)
        assert 1 <= high <= rows and 1 <= wide <= vocabulary
        assert high * wide * each <= workspace or high == 1
        assert wide == vocabulary or wide % _tiles.SEGMENT_COLUMNS == 0
    assert _tiles.tile_shape(8192, 256000, 6, 1 << 28) == (8192, 5120)


def test_gradients_are_rounded_to_bfloat16_as_torch_rounds_them(operators):
    """Ties and their neighbours, large, small and infinite: as d, which the gradient is where nothing else is."""
    from slipstick.losses import _tiles

    words = (torch.arange(0, 0x7F80, 7, dtype=torch.int64)[:, None] << 16) + torch.tensor([0x7FFF, 0x8000, 0x8001, 0])
    words = torch.cat((words.flatten(), torch.tensor([0x7F7FFFFF, 0x7F800000]))).to(torch.int32)
    numbers = words.view(torch.float32)
    numbers = torch.cat((numbers, -numbers)) + 0.0  # -0 added to 0 is 0
    rows = numbers.shape[0]
    head = _tiles.TiledHead(torch.zeros(rows, 1), torch.zeros(5, 1), None, None, None, "", 0.0, 1.0, -100, 1)
    tile = _tiles.Tile(head, slice(0, rows), slice(0, 5), torch.zeros(rows, 5))
    out = torch.empty(rows, 5, dtype=torch.bfloat16)
    of = _tiles.Coefficients(None, None, None, None, numbers.double(), None, None)
    operators.CudaKernels().form_gradient(tile, of, 0.0, None, out)
    want = numbers.to(torch.bfloat16)[:, None].expand(-1, 5)
    assert torch.equal(out.view(torch.int16), want.contiguous().view(torch.int16))
