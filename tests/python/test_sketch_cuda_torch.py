# Contract: on CUDA the sparse sketch has the CPU's signs at the CPU's places, all other kinds the CPU's bits, lstsq is certified as on the CPU, also where the
# rank is deficient, and all give the same bits in every run. The arithmetic and the passes are proven on the host (test_sketch_scatter_torch.py); this is for what only a device
# can show. Without a device, that each call reaches CUDA and says cleanly that there is none.
from __future__ import annotations

import numpy as np
import pytest

import slipstick
from slipstick import UnsupportedError, sketch
from slipstick._extension import cuda_extension

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.torch, pytest.mark.cuda]

INSTALLED = cuda_extension() is not None
WITH_DEVICE = INSTALLED and torch.cuda.is_available()
needs_device = pytest.mark.skipif(not WITH_DEVICE, reason="no CUDA device" if INSTALLED else "slipstick._cuda is not installed")
needs_no_device = pytest.mark.skipif(not INSTALLED or torch.cuda.is_available(), reason="needs slipstick._cuda and no device")


@needs_device
@pytest.mark.parametrize("nonzeros", [1, 4])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (2049, 9), (70_000, 33), (500_000, 100)], ids=str)
def test_sums_that_are_exact_are_those_of_the_cpu_to_the_bit(shape, nonzeros):
    a = torch.from_numpy(np.random.default_rng(0).integers(-9, 10, shape)).double()
    for rows, seed, first in ((nonzeros, 0, 0), (17, 2**64 - 1, 5), (1500, 3, 2**40)):
        want = sketch.sketch(a.numpy(), kind="sjlt", rows=rows, nonzeros=nonzeros, seed=seed, first_row=first)
        got = sketch.sketch(a.cuda(), kind="sjlt", rows=rows, nonzeros=nonzeros, seed=seed, first_row=first)
        np.testing.assert_array_equal(got.cpu().numpy(), want)
        got = sketch.sketch(a.float().cuda(), kind="sjlt", rows=rows, nonzeros=nonzeros, seed=seed, first_row=first)
        np.testing.assert_array_equal(got.cpu().numpy(), want)


@needs_device
@pytest.mark.parametrize("nonzeros", [2, 3, 5, 8, 64])
def test_any_sums_are_those_of_the_cpu_up_to_rounding_and_the_same_in_every_run(nonzeros):
    random = np.random.default_rng(1)
    whole, weights = torch.from_numpy(random.standard_normal((50_000, 30))), torch.from_numpy(random.random(50_000))
    for take in (lambda x: x, lambda x: x.T.contiguous().T, lambda x: x[:, 3:11], lambda x: x[::2], lambda x: x.float()):
        a, w = take(whole), weights[: take(whole).shape[0]]
        want = sketch.sketch(a.numpy(), kind="sjlt", rows=700, nonzeros=nonzeros, seed=9, weights=w)
        got = [sketch.sketch(take(whole.cuda()), kind="sjlt", rows=700, nonzeros=nonzeros, seed=9, weights=w.cuda()) for _ in range(3)]
        assert (np.abs(got[0].cpu().numpy() - want) <= 1e-13 * np.abs(want).max()).all()
        assert torch.equal(got[0], got[1]) and torch.equal(got[0], got[2])


@needs_device
def test_long_sketches_take_fewer_columns_and_then_say_that_there_is_no_room():
    a = torch.ones(5000, 3, dtype=torch.float64)
    for rows in (5000, 11000):
        want = sketch.sketch(a.numpy(), kind="countsketch", rows=rows)
        np.testing.assert_array_equal(sketch.sketch(a.cuda(), kind="countsketch", rows=rows).cpu().numpy(), want)
    with pytest.raises(UnsupportedError, match="expected more nonzeros, fewer rows, or the CPU"):
        sketch.sketch(a.cuda(), kind="countsketch", rows=1_000_000)


@pytest.fixture
def fusing():
    """At a level of the CPU that fuses sums and products: any but v2."""
    levels = [isa for isa in slipstick.config()["isa_levels"] if isa != "v2"]
    if not levels:
        pytest.skip("this processor fuses no sums and products")
    before = slipstick.isa()
    slipstick.set_isa(levels[-1])
    yield
    slipstick.set_isa(before)


def assert_same_bits(got, want):
    """Of what a NaN is, nothing is promised."""
    got, want = got.cpu(), torch.from_numpy(np.ascontiguousarray(want))
    differ = (got.view(torch.int64) != want.view(torch.int64)) & ~(got.isnan() & want.isnan())
    assert got.shape == want.shape and not differ.any(), (
        f"{int(differ.sum())} of {differ.numel()} differ, first at {differ.nonzero()[0].tolist()}"
    )


def hold_to_the_cpu(kind, shape, rows):
    """For float64 and float32, any strides, weights, and first rows in a block and far from 0."""
    random = np.random.default_rng(0)
    a = torch.from_numpy(random.standard_normal(shape))
    weights = torch.from_numpy(random.integers(0, 999, shape[0]) ** 2.0)  # squares, whose roots all find exactly
    moved = a.cuda()
    for take in (lambda x: x, lambda x: x.T.contiguous().T, lambda x: x.float(), lambda x: x[::2, 1:]):
        for first, w in ((0, None), (2**40 + 300, weights)):
            x = take(a)
            w = None if w is None else w[: x.shape[0]]
            options = {"kind": kind, "rows": rows, "seed": 2**64 - 1, "first_row": first}
            want = sketch.sketch(x.numpy(), weights=None if w is None else w.numpy(), **options)
            assert_same_bits(sketch.sketch(take(moved), weights=None if w is None else w.cuda(), **options), want)


# With sums in registers, and in one wave and in several, as in test_sketch_scatter_torch.py.
@needs_device
@pytest.mark.parametrize("rows", [1, 200, 512, 513, 1025, 4000])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (513, 9), (43_000, 100), (33_000, 130), (500_000, 3)], ids=str)
def test_a_hadamard_sketch_has_the_bits_of_the_cpu(shape, rows, fusing):
    hold_to_the_cpu("srht", shape, rows)


@needs_device
@pytest.mark.parametrize("rows", [1, 64, 65, 1030])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (127, 64), (129, 65), (20_000, 130), (200_000, 3)], ids=str)
def test_a_gaussian_sketch_has_the_bits_of_the_cpu(shape, rows, fusing):
    hold_to_the_cpu("gaussian", shape, rows)


@needs_device
@pytest.mark.parametrize("rows", [1, 65, 300])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (513, 9), (33_000, 130), (200_000, 3)], ids=str)
def test_a_pooled_sketch_has_the_bits_of_the_cpu(shape, rows, fusing):
    hold_to_the_cpu("gaussian_pooled", shape, rows)


@needs_device
@pytest.mark.parametrize("kind", ["srht", "gaussian", "gaussian_pooled", "sjlt"])
def test_zeros_have_the_signs_and_what_is_no_number_the_place_of_the_cpu(kind, fusing):
    smallest = np.zeros((700, 3))
    smallest[0] = 5e-324
    wild = np.random.default_rng(2).standard_normal((1300, 6))
    wild[700, 0], wild[1299, 1], wild[0, 2], wild[512, 3] = np.nan, np.inf, -np.inf, np.inf
    for a in (smallest, wild):
        options = {"kind": kind, "rows": 70, "first_row": 9, "nonzeros": 40 if kind == "sjlt" else None}
        got, want = sketch.sketch(torch.from_numpy(a).cuda(), **options), sketch.sketch(a, **options)
        if kind == "sjlt" and a is wild:
            np.testing.assert_allclose(got.cpu().numpy(), want, rtol=1e-12, atol=1e-13)
        else:
            assert_same_bits(got, want)


@needs_device
@pytest.mark.parametrize("kind", ["srht", "gaussian", "gaussian_pooled", "sjlt"])
def test_sketches_join_the_current_stream_and_wait_for_nothing(kind):
    a = torch.randn(20_000, 12, dtype=torch.float64, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    want = sketch.sketch(a, kind=kind, rows=100)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        late = torch.zeros_like(a)
        torch.cuda._sleep(50_000_000)
        late.copy_(a)
        got = sketch.sketch(late, kind=kind, rows=100)
    stream.synchronize()
    assert torch.equal(got, want)
    graph, static = torch.cuda.CUDAGraph(), torch.zeros_like(a)
    with torch.cuda.graph(graph):  # a capture fails where anything waits
        captured = sketch.sketch(static, kind=kind, rows=100)
    static.copy_(a)
    graph.replay()
    assert torch.equal(captured, want)


@needs_device
def test_a_kronecker_sketch_has_the_bits_of_the_cpu(fusing):
    a, b = (torch.from_numpy(np.random.default_rng(0).standard_normal(shape)) for shape in ((9000, 3), (700, 5)))
    options = {"rows": 50, "seed": 3, "first_rows": (3, 1000)}
    want = sketch.kronecker_sketch(a.numpy(), b.numpy(), **options)
    assert_same_bits(sketch.kronecker_sketch(a.cuda(), b.cuda(), **options), want)
    with pytest.raises(TypeError, match="kronecker_sketch: A2 is on cpu; expected a tensor on cuda:0, as A1 is one"):
        sketch.kronecker_sketch(a.cuda(), b, **options)
    with pytest.raises(TypeError, match="kronecker_sketch: A1 is ndarray; expected a tensor on cuda:0, as A2 is one"):
        sketch.kronecker_sketch(a.numpy(), b.cuda(), **options)


def made(rows, columns, condition, seed=0):
    random = np.random.default_rng(seed)
    u, _ = np.linalg.qr(random.standard_normal((rows, columns)))
    v, _ = np.linalg.qr(random.standard_normal((columns, columns)))
    a = (u * np.geomspace(1, 1 / condition, columns)) @ v
    return torch.from_numpy(a), torch.from_numpy(a @ random.standard_normal(columns) + 1e-3 * random.standard_normal(rows))


@needs_device
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (129, 64), (3000, 257), (200, 4096), (1_000_000, 20)], ids=str)
def test_a_residual_is_that_of_products_and_the_same_in_every_run(shape):
    from slipstick.sketch import _cuda

    random = np.random.default_rng(7)
    most = cuda_extension().sketch.residual_most_rights(shape[1])
    a, b, x = (torch.from_numpy(random.standard_normal(size)).cuda() for size in (shape, (shape[0], most), (shape[1], most)))
    for scale in (None, torch.from_numpy(random.random(shape[0])).cuda()):
        for left in (a, a.float()):
            wide, right = (left.double(), b) if scale is None else (left.double() * scale[:, None], b * scale[:, None])
            rest, size = right - wide @ x, right.abs() + wide.abs() @ x.abs()
            want = torch.cat((wide.T @ rest, (rest * rest).sum(0, keepdim=True)))
            bound = 2.0**-53 * (3000 + shape[0] // 512 + shape[1]) * torch.cat((wide.abs().T @ size, (size * size).sum(0, keepdim=True)))
            got = [_cuda.fused_residual("lstsq", left, b, scale, x) for _ in range(3)]
            assert ((got[0] - want).abs() <= bound).all()
            assert torch.equal(got[0], got[1]) and torch.equal(got[0], got[2])
            for k in {0, most - 1}:  # the bits that it has alone
                alone = _cuda.fused_residual("lstsq", left, b[:, k : k + 1], scale, x[:, k : k + 1].contiguous())
                assert torch.equal(alone[:, 0], got[0][:, k])


@needs_device
def test_many_right_hand_sides_are_solved_as_on_the_cpu():
    a, _ = made(30_000, 40, 1e3)
    b = torch.from_numpy(np.random.default_rng(3).standard_normal((30_000, 40)))
    for count in (5, 40):  # by one kernel and by products
        got, want = sketch.lstsq(a.cuda(), b[:, :count].cuda()), sketch.lstsq(a, b[:, :count])
        assert got.certified and got.method == want.method
        torch.testing.assert_close(got.x.cpu(), want.x, rtol=1e-9, atol=1e-9)


@needs_device
@pytest.mark.parametrize("method", ["auto", "gram", "preconditioned_gram", "conjugate_gradients", "qr"])
@pytest.mark.parametrize("condition", [1.0, 1e5, 1e10])
def test_solutions_are_certified_as_on_the_cpu(condition, method):
    a, b = made(30_000, 40, condition)
    options = {"method": method, "rtol": 1e-14}
    got, again = (sketch.lstsq(a.cuda(), b.cuda(), **options) for _ in range(2))
    want = sketch.lstsq(a, b, **options)
    assert got.certified and got.method == want.method and got.rank == 40 and got.x.is_cuda
    assert torch.equal(got.x, again.x) and got.backward_error == again.backward_error
    torch.testing.assert_close(got.x.cpu(), want.x, rtol=1e-3, atol=1e-15 * condition)
    assert got.residual_norm == pytest.approx(want.residual_norm, rel=1e-6)


@needs_device
def test_deficient_rank_is_seen_and_the_least_norm_is_taken():
    a, b = made(20_000, 20, 10.0)
    a = torch.cat((a, a[:, :3] + a[:, 4:7], torch.zeros(20_000, 1, dtype=torch.float64)), 1)
    got, want = sketch.lstsq(a.cuda(), b.cuda()), sketch.lstsq(a, b)
    assert (got.rank, got.method, got.certified) == (20, "qr", True)
    torch.testing.assert_close(got.x.cpu(), want.x, rtol=1e-9, atol=1e-12)


@needs_device
def test_weights_ridge_types_and_gradients():
    a, b = made(9000, 16, 100.0)
    weights = torch.rand(9000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for options in ({"weights": weights}, {"ridge": 0.5}):
        moved = {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in options.items()}
        torch.testing.assert_close(sketch.lstsq(a.cuda(), b.cuda(), **moved).x.cpu(), sketch.lstsq(a, b, **options).x, rtol=1e-10, atol=0)
    assert sketch.lstsq(a.float().cuda(), b.float().cuda()).x.dtype == torch.float32
    inputs = [x.cuda().requires_grad_() for x in (a, b, weights)]
    on_cpu = [x.clone().requires_grad_() for x in (a, b, weights)]
    made_of = torch.autograd.grad(sketch.lstsq(inputs[0], inputs[1], weights=inputs[2]).x.square().sum(), inputs)
    wanted = torch.autograd.grad(sketch.lstsq(on_cpu[0], on_cpu[1], weights=on_cpu[2]).x.square().sum(), on_cpu)
    for x, y in zip(made_of, wanted, strict=True):
        torch.testing.assert_close(x.cpu(), y, rtol=1e-6, atol=1e-9)
    with pytest.raises(TypeError, match="lstsq: b is on cpu; expected cuda"):
        sketch.lstsq(a.cuda(), b)


# ---- without a device -----------------------------------------------------------------------------------------------------------------------


@needs_no_device
def test_each_call_reaches_cuda_and_says_that_there_is_no_device(monkeypatch):
    from slipstick.sketch import _cuda

    monkeypatch.setattr(_cuda, "_place", lambda x: (0, 0))
    a = torch.ones(100, 3, dtype=torch.float64)
    for kind in (a, a.float()):
        for name, nonzeros in (("sjlt", 4), ("srht", 1), ("gaussian", 1), ("gaussian_pooled", 1)):
            with pytest.raises(UnsupportedError, match=r"^sketch: CUDA says: "):
                _cuda.sketch("sketch", kind, name, 0, 20, nonzeros, 0, None)
    with pytest.raises(UnsupportedError, match=r"^residual: CUDA says: "):
        _cuda.fused_residual("lstsq", a, a[:, :1], None, a[:3, :1].contiguous())
    with pytest.raises(UnsupportedError, match="residual: b has 33 columns and A 3; expected at most 32 of b for so many of A"):
        _cuda.fused_residual("lstsq", a, a[:, :1].expand(100, 33), None, torch.ones(3, 33, dtype=torch.float64))
    with pytest.raises(ValueError, match="sketch: rows is 268435456; expected 1 to 268435455"):
        _cuda.sketch("sketch", a, "gaussian_pooled", 0, 2**28, 1, 0, None)
    with pytest.raises(ValueError, match="sketch: nonzeros is 65; expected 1 to 64"):
        _cuda.sketch("sketch", a, "sjlt", 0, 200, 65, 0, None)
