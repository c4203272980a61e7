# Contract: on CUDA the sparse sketch has the CPU's signs at the CPU's places, all other kinds the CPU's bits, and lstsq is certified as on the CPU. Everything
# but the launch runs here: the kernels' own source compiled for the host, and the passes of lstsq on tensors of the processor. Oracles: the CPU's
# sketch, bit for bit where sums are exact or in the same order; lstsq of arrays, which has oracles of its own, and the certificate.
from __future__ import annotations

import numpy as np
import pytest
import sketch_scatter_host

import slipstick
from slipstick import sketch

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch]

from slipstick.sketch import _cuda, _lstsq  # noqa: E402


@pytest.fixture(autouse=True)
def on_host(monkeypatch):
    host = sketch_scatter_host.Host(sketch_scatter_host.compiled())
    monkeypatch.setattr(_cuda, "kernels", lambda *arguments: host)
    monkeypatch.setattr(_cuda, "_place", lambda x: (0, 0))


@pytest.mark.parametrize("nonzeros", [1, 4])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (2047, 3), (2048, 2), (2049, 9), (70_000, 3)], ids=str)
def test_sums_that_are_exact_are_those_of_the_cpu_to_the_bit(shape, nonzeros):
    a = torch.from_numpy(np.random.default_rng(0).integers(-9, 10, shape)).double()
    for rows, seed, first in ((nonzeros, 0, 0), (17, 2**64 - 1, 5), (200, 3, 2**40)):
        want = sketch.sketch(a.numpy(), kind="sjlt", rows=rows, nonzeros=nonzeros, seed=seed, first_row=first)
        got = _cuda.sketch("sketch", a, "sjlt", seed, rows, nonzeros, first, None)
        np.testing.assert_array_equal(got.numpy(), want)
        np.testing.assert_array_equal(_cuda.sketch("sketch", a.float(), "sjlt", seed, rows, nonzeros, first, None).numpy(), want)


@pytest.mark.parametrize("nonzeros", [1, 2, 3, 5, 8, 64])
def test_any_sums_are_those_of_the_cpu_up_to_rounding(nonzeros):
    random = np.random.default_rng(1)
    whole = torch.from_numpy(random.standard_normal((5000, 14)))
    weights = torch.from_numpy(random.random(5000))
    for a in (whole, whole.T.contiguous().T, whole[:, 3:11], whole[::2], whole.float(), whole[:, ::3]):
        w = weights[: a.shape[0]]
        want = sketch.sketch(a.numpy(), kind="sjlt", rows=131, nonzeros=nonzeros, seed=9, weights=w.numpy())
        got = _cuda.sketch("sketch", a, "sjlt", 9, 131, nonzeros, 0, w)
        assert (np.abs(got.numpy() - want) <= 1e-13 * np.abs(want).max()).all()


def test_nan_and_infinity_go_where_their_row_goes():
    a = torch.zeros(3000, 2, dtype=torch.float64)
    a[1500, 0], a[2999, 1] = float("nan"), float("inf")
    want = sketch.sketch(a.numpy(), kind="sjlt", rows=40, nonzeros=4)
    np.testing.assert_array_equal(_cuda.sketch("sketch", a, "sjlt", 0, 40, 4, 0, None).numpy(), want)


# ---- the Hadamard transform -------------------------------------------------------------------------------------------------------------------

FUSES = [isa for isa in slipstick.config()["isa_levels"] if isa != "v2"]  # sums and products at once, as CUDA does
KRONECKER = {"rows": 50, "seed": 2**64 - 1, "first_rows": (3, 2**41 + 5)}


@pytest.fixture
def fusing():
    """At a level that fuses sums and products."""
    if not FUSES:
        pytest.skip("this processor fuses no sums and products")
    before = slipstick.isa()
    slipstick.set_isa(FUSES[-1])
    yield
    slipstick.set_isa(before)


def same_bits(got, want):
    np.testing.assert_array_equal(got.numpy().view(np.uint64), np.ascontiguousarray(want).view(np.uint64))


# Rows that fill no, one and many blocks of 512; 1, 2 and 16 jobs; sketches of one group of 512 or 1024 samples and of several; with their sums in registers,
# as there are many columns or groups, and in one wave and in two.
@pytest.mark.parametrize(
    ("shape", "rows", "first", "waves"),
    [
        ((0, 3), 5, 7, 0),
        ((1, 1), 1, 0, 1),
        ((511, 2), 511, 1, 1),
        ((512, 4), 512, 0, 1),
        ((513, 5), 513, 511, 1),
        ((3000, 9), 40, 2**40 + 300, 1),
        ((70_000, 3), 17, 5, 1),
        ((700, 3), 1024, 100, 1),
        ((1500, 2), 2600, 513, 1),
        ((43_000, 100), 200, 1, 2),
        ((33_000, 130), 9, 0, 0),
        ((600, 1025), 600, 5, 0),
        ((1100, 350), 2600, 513, 0),
    ],
    ids=str,
)
def test_a_hadamard_sketch_has_the_bits_of_the_cpu(shape, rows, first, waves, fusing):
    assert _cuda.kernels().waves(_cuda.KINDS.index("srht"), rows, *shape)[0] == waves
    random = np.random.default_rng(0)
    a = torch.from_numpy(random.standard_normal(shape))
    weights = torch.from_numpy(random.integers(0, 999, shape[0]) ** 2.0)  # squares, whose roots torch finds exactly on a processor, too
    for seed, w in ((3, None), (2**64 - 1, weights)):
        options = {"kind": "srht", "rows": rows, "seed": seed, "first_row": first}
        for x in (a, a.float()):
            want = sketch.sketch(x.numpy(), weights=None if w is None else w.numpy(), **options)
            same_bits(_cuda.sketch("sketch", x, "srht", seed, rows, 1, first, w), want)


def test_a_hadamard_sketch_reads_any_strides(fusing):
    whole = torch.from_numpy(np.random.default_rng(1).standard_normal((5000, 14)))
    for a in (whole.T.contiguous().T, whole[:, 3:11], whole[::2], whole[:, ::3], whole.float().T.contiguous().T[:, 1:]):
        same_bits(_cuda.sketch("sketch", a, "srht", 9, 131, 1, 77, None), sketch.sketch(a.numpy(), rows=131, seed=9, first_row=77))


def test_a_hadamard_sketch_of_what_is_no_number_is_that_of_the_cpu(fusing):
    a = torch.from_numpy(np.random.default_rng(2).standard_normal((1300, 6)))
    a[700, 0], a[1299, 1], a[0, 2], a[512, 3], a[600, 4] = (float(x) for x in ("nan", "inf", "-inf", "inf", "1e308"))
    want = sketch.sketch(a.numpy(), rows=40, first_row=9)
    np.testing.assert_array_equal(_cuda.sketch("sketch", a, "srht", 0, 40, 1, 9, None).numpy(), want)
    assert np.isfinite(want[:, 4:]).all() and not np.isfinite(want[:, :4]).any()


def test_a_kronecker_sketch_has_the_bits_of_the_cpu(fusing):
    random = np.random.default_rng(4)
    a, b = (torch.from_numpy(random.standard_normal(shape)) for shape in ((9000, 3), (700, 5)))
    want = sketch.kronecker_sketch(a.numpy(), b.numpy(), **KRONECKER)
    same_bits(_cuda.kronecker_sketch("kronecker_sketch", a, b, KRONECKER["seed"], KRONECKER["rows"], KRONECKER["first_rows"]), want)


def test_every_level_that_fuses_has_the_same_bits(fusing):
    a = np.random.default_rng(5).standard_normal((9000, 33))
    bits = {}
    for isa in FUSES:
        slipstick.set_isa(isa)
        assert slipstick.isa() == isa
        bits[isa] = [sketch.sketch(a, rows=rows).tobytes() for rows in (9, 10, 11, 40)]
    assert all(of_level == bits[FUSES[-1]] for of_level in bits.values())


# Products of the smallest numbers round to zeros of either sign, which no sum of parts may lose.
@pytest.mark.parametrize("kind", ["srht", "gaussian", "sjlt"])
@pytest.mark.parametrize("shape", [(1, 2), (700, 3), (33_000, 130)], ids=str)
def test_zeros_have_the_signs_of_the_cpu(kind, shape, fusing):
    a = np.zeros(shape)
    a[0] = 5e-324
    want = sketch.sketch(a, kind=kind, rows=70, nonzeros=40 if kind == "sjlt" else None)
    assert (want == 0).all()
    same_bits(_cuda.sketch("sketch", torch.from_numpy(a), kind, 0, 70, 40 if kind == "sjlt" else 1, 0, None), want)
    if kind == "srht" and shape[0] < 33_000:  # of one job
        assert np.signbit(want).any() and not np.signbit(want).all()


# ---- normal numbers ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "first"), [(1, 0), (3, 1), (2001, 2**62)])
def test_normals_have_the_bits_of_the_cpu(rows, first):
    identity = np.eye(400)  # of which the sketch is S itself, on every level
    options = {"kind": "gaussian", "rows": rows, "seed": 2**64 - 1, "first_row": first}
    same_bits(
        _cuda.sketch("sketch", torch.from_numpy(identity), "gaussian", 2**64 - 1, rows, 1, first, None), sketch.sketch(identity, **options)
    )


# Rows that fill no, one and many tiles of 128, and no whole one; 1, 2 and 16 jobs; fewer columns and samples than a block's and more; two waves.
@pytest.mark.parametrize(
    ("shape", "rows", "first", "waves"),
    [
        ((0, 3), 5, 7, 0),
        ((1, 1), 1, 0, 1),
        ((127, 2), 64, 1, 1),
        ((128, 64), 65, 0, 1),
        ((129, 65), 259, 2**40 + 3, 1),
        ((3000, 130), 40, 5, 1),
        ((40_000, 20), 10, 5, 1),
        ((2500, 60), 4000, 0, 2),
    ],
    ids=str,
)
def test_a_gaussian_sketch_has_the_bits_of_the_cpu(shape, rows, first, waves, fusing):
    assert _cuda.kernels().waves(_cuda.KINDS.index("gaussian"), rows, *shape)[0] == waves
    random = np.random.default_rng(0)
    a = torch.from_numpy(random.standard_normal(shape))
    weights = torch.from_numpy(random.integers(0, 999, shape[0]) ** 2.0)  # squares, whose roots torch finds exactly on a processor, too
    for x, seed, w in ((a, 3, None), (a.float(), 2**64 - 1, weights)):
        options = {"kind": "gaussian", "rows": rows, "seed": seed, "first_row": first}
        want = sketch.sketch(x.numpy(), weights=None if w is None else w.numpy(), **options)
        same_bits(_cuda.sketch("sketch", x, "gaussian", seed, rows, 1, first, w), want)


@pytest.mark.parametrize(
    ("shape", "rows", "first"),
    [((0, 3), 5, 7), ((1, 1), 1, 0), ((513, 5), 65, 511), ((3000, 9), 7, 2**40 + 300), ((9000, 130), 130, 5)],
    ids=str,
)
def test_a_pooled_sketch_has_the_bits_of_the_cpu(shape, rows, first, fusing):
    random = np.random.default_rng(0)
    a = torch.from_numpy(random.standard_normal(shape))
    weights = torch.from_numpy(random.integers(0, 999, shape[0]) ** 2.0)
    for x, seed, w in ((a, 3, None), (a.float(), 2**64 - 1, weights)):
        options = {"kind": "gaussian_pooled", "rows": rows, "seed": seed, "first_row": first}
        want = sketch.sketch(x.numpy(), weights=None if w is None else w.numpy(), **options)
        same_bits(_cuda.sketch("sketch", x, "gaussian_pooled", seed, rows, 1, first, w), want)


@pytest.mark.parametrize("kind", ["gaussian", "gaussian_pooled"])
def test_sketches_of_normals_read_any_strides_and_what_is_no_number(kind, fusing):
    whole = torch.from_numpy(np.random.default_rng(1).standard_normal((1500, 14)))
    whole[700, 3], whole[1499, 4], whole[0, 5] = float("nan"), float("inf"), float("-inf")
    for a in (whole.T.contiguous().T, whole[:, 3:11], whole[::2], whole[:, ::3], whole.float().T.contiguous().T[:, 1:]):
        want = sketch.sketch(a.numpy(), kind=kind, rows=31, seed=9, first_row=77)
        np.testing.assert_array_equal(_cuda.sketch("sketch", a, kind, 9, 31, 1, 77, None).numpy(), want)


@pytest.mark.parametrize("kind", ["gaussian", "gaussian_pooled"])
def test_every_level_that_fuses_has_the_same_bits_of_normals(kind, fusing):
    bits = {}
    for isa in FUSES:
        slipstick.set_isa(isa)
        bits[isa] = []
        for shape, rows in (((9000, 33), 13), ((40_000, 5), 3), ((20_000, 14), 12)):
            bits[isa].append(sketch.sketch(np.random.default_rng(5).standard_normal(shape), kind=kind, rows=rows).tobytes())
    assert all(of_level == bits[FUSES[-1]] for of_level in bits.values())


# ---- devices ------------------------------------------------------------------------------------------------------------------------------------


def test_what_is_on_two_devices_is_named():
    from torch._subclasses.fake_tensor import FakeTensorMode

    host = torch.ones(4, 2, dtype=torch.float64)
    with FakeTensorMode(allow_non_fake_inputs=True):
        there, other, line = (
            torch.empty(size, dtype=torch.float64, device=device)
            for size, device in (((4, 2), "cuda:0"), ((4, 2), "cuda:1"), (4, "cuda:0"))
        )
    for a, b, named in (
        (there, host.numpy(), r"A2 is ndarray; expected a tensor on cuda:0, as A1 is one"),
        (host.numpy(), there, r"A1 is ndarray; expected a tensor on cuda:0, as A2 is one"),
        (host, there, r"A1 is on cpu; expected a tensor on cuda:0, as A2 is one"),
        (there, other, r"A2 is on cuda:1; expected a tensor on cuda:0, as A1 is one"),
    ):
        with pytest.raises(TypeError, match="^kronecker_sketch: " + named):
            sketch.kronecker_sketch(a, b, rows=5)
    with pytest.raises(TypeError, match=r"^sketch: weights is ndarray; expected a tensor on cuda:0, as A is one"):
        sketch.sketch(there, rows=5, weights=np.ones(4))
    with pytest.raises(TypeError, match=r"^sketch: A is ndarray; expected a tensor on cuda:0, as weights is one"):
        sketch.sketch(host.numpy(), rows=5, weights=line)


# ---- the residual ---------------------------------------------------------------------------------------------------------------------------


def residual_and_bound(a, b, x, scale):
    """A^T R and the squared norms of R in extended precision, and what rounding may make of them: 2^-53 of the sums of magnitudes for each addition of a longest chain."""
    wide = [np.asarray(part, np.longdouble) for part in (a, b, x)]
    if scale is not None:
        wide[0], wide[1] = wide[0] * scale[:, None], wide[1] * scale[:, None]
    rest = wide[1] - wide[0] @ wide[2]
    size = np.abs(wide[1]) + np.abs(wide[0]) @ np.abs(wide[2])
    chain = 1100 + a.shape[0] // 1024 + a.shape[1] // 16
    bound = 2.0**-53 * chain * np.vstack((np.abs(wide[0]).T @ size, np.sum(size * size, axis=0)))
    return np.vstack((wide[0].T @ rest, np.sum(rest * rest, axis=0))), bound


@pytest.mark.parametrize(
    "shape", [(0, 3), (1, 1), (15, 7), (16, 16), (17, 31), (127, 32), (128, 33), (129, 64), (3000, 100), (300, 257), (200, 700)], ids=str
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rights", [1, 2, 4, 5])
def test_the_residual_and_its_gradient_are_those_of_one_read(shape, weighted, rights):
    random = np.random.default_rng(7)
    a, b, x = (torch.from_numpy(random.standard_normal(size)) for size in (shape, (shape[0], rights), (shape[1], rights)))
    scale = torch.from_numpy(random.random(shape[0])) if weighted else None
    for left, right in ((a, b), (a.float(), b), (a, b.float()), (a.float(), b.float())):
        got = _cuda.fused_residual("lstsq", left, right, scale, x).numpy()
        want, bound = residual_and_bound(left.numpy(), right.numpy(), x.numpy(), None if scale is None else scale.numpy())
        assert (np.abs(got - want) <= bound).all()


def test_the_residual_reads_any_strides_and_many_chunks():
    random = np.random.default_rng(8)
    whole, right, x = (torch.from_numpy(random.standard_normal(size)) for size in ((300_000, 4), (300_000, 4), (4, 3)))
    for a, b in (
        (whole, right[:, 1:2]),
        (whole[::2], right[::2, :2]),
        (whole.T.contiguous().T, right[:1, :1].expand(300_000, 3)),
        (whole, right.T.contiguous().T[:, :3]),
    ):
        of = x[:, : b.shape[1]].contiguous()
        got = _cuda.fused_residual("lstsq", a, b, None, of).numpy()
        want, bound = residual_and_bound(a.numpy(), b.numpy(), of.numpy(), None)
        assert (np.abs(got - want) <= bound).all()


@pytest.mark.parametrize("shape", [(500, 1), (500, 10), (300, 100), (200, 500)], ids=str)
def test_a_right_hand_side_has_the_bits_that_it_has_alone(shape):
    random = np.random.default_rng(9)
    rights = _cuda.kernels().residual_most_rights(shape[1])
    assert rights == {1: 32, 10: 25, 100: 20, 500: 8}[shape[1]]
    a, b, x = (torch.from_numpy(random.standard_normal(size)) for size in (shape, (shape[0], rights), (shape[1], rights)))
    got = _cuda.fused_residual("lstsq", a, b, None, x)
    for k in range(rights):
        same_bits(
            got[:, k].contiguous(), _cuda.fused_residual("lstsq", a, b[:, k : k + 1], None, x[:, k : k + 1].contiguous())[:, 0].numpy()
        )


def test_what_is_no_number_reaches_the_gradient():
    a, b, x = torch.ones(5000, 3, dtype=torch.float64), torch.ones(5000, 1, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    b[4321] = float("nan")
    assert _cuda.fused_residual("lstsq", a, b, None, x).isnan().all()
    b[4321], a[17, 2] = 1.0, float("inf")
    assert not _cuda.fused_residual("lstsq", a, b, None, x).isfinite().any()


@pytest.mark.parametrize("columns", [24, 23])
def test_what_has_no_kernel_of_its_own_goes_by_products(columns, monkeypatch):
    a, b = made(3000, columns, 1e3)
    whole = solved(a, b)
    monkeypatch.setattr(sketch_scatter_host.Host, "residual_most_rights", lambda self, columns: int(columns <= 23))
    monkeypatch.setattr(sketch_scatter_host.Host, "residual", None if columns == 24 else sketch_scatter_host.Host.residual)
    for left in (a, a.T.contiguous().T):
        np.testing.assert_allclose(solved(left, b).x, whole.x, rtol=1e-9)


# ---- lstsq ----------------------------------------------------------------------------------------------------------------------------------


def solved(a, b, weights=None, ridge=0.0, method="auto", rtol=None):
    problem = _cuda.problem_of("lstsq", a, b, weights, ridge, 0)
    return _lstsq.of_problem(problem, method, rtol, b.ndim == 1)


def made(rows, columns, condition, seed=0, rights=None):
    random = np.random.default_rng(seed)
    u, _ = np.linalg.qr(random.standard_normal((rows, columns)))
    v, _ = np.linalg.qr(random.standard_normal((columns, columns)))
    a = (u * np.geomspace(1, 1 / condition, columns)) @ v
    b = a @ random.standard_normal((columns, rights or 1)) + 1e-3 * random.standard_normal((rows, rights or 1))
    return torch.from_numpy(a), torch.from_numpy(b if rights else b[:, 0])


@pytest.mark.parametrize("method", _lstsq.METHODS)
@pytest.mark.parametrize("condition", [1.0, 1e5, 1e10])
def test_solutions_are_certified_as_on_the_cpu(condition, method):
    a, b = made(6000, 24, condition, rights=2)
    got, want = solved(a, b, method=method, rtol=1e-14), sketch.lstsq(a.numpy(), b.numpy(), method=method, rtol=1e-14)
    assert got.certified and got.method == want.method and got.rank == 24
    assert got.backward_error <= 1e-14
    np.testing.assert_allclose(got.x, want.x, rtol=1e-3, atol=1e-15 * condition)
    np.testing.assert_allclose(got.residual_norm, want.residual_norm, rtol=1e-6)
    np.testing.assert_allclose(got.condition, want.condition, rtol=1e-3)
    np.testing.assert_allclose(got.standard_errors, want.standard_errors, rtol=0.3 if method == "conjugate_gradients" else 1e-3)


def test_deficient_rank_is_seen_and_the_least_norm_is_taken():
    a, b = made(4000, 20, 10.0)
    a = torch.cat((a, a[:, :3] + a[:, 4:7], torch.zeros(4000, 1, dtype=torch.float64)), 1)
    got, want = solved(a, b), sketch.lstsq(a.numpy(), b.numpy())
    assert (got.rank, got.method, got.certified) == (want.rank, want.method, True) == (20, "qr", True)
    np.testing.assert_allclose(got.x, want.x, rtol=1e-9, atol=1e-12)


def test_weights_ridge_wide_empty_and_narrow_types():
    a, b = made(3000, 16, 100.0)
    weights = torch.rand(3000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights[::7] = 0
    for options in ({"weights": weights}, {"ridge": 0.5}, {"weights": weights, "ridge": 1e-3, "method": "qr"}):
        got = solved(a, b, **options)
        arrays = {name: x.numpy() if isinstance(x, torch.Tensor) else x for name, x in options.items()}
        want = sketch.lstsq(a.numpy(), b.numpy(), **arrays)
        np.testing.assert_allclose(got.x, want.x, rtol=1e-10)
        np.testing.assert_allclose(got.standard_errors, want.standard_errors, rtol=1e-8)
    wide = made(40, 16, 10.0)[0].T.contiguous()
    np.testing.assert_allclose(solved(wide, b[:16]).x, sketch.lstsq(wide.numpy(), b[:16].numpy()).x, rtol=1e-9)
    np.testing.assert_allclose(solved(a.float(), b.float()).x, sketch.lstsq(a.float().numpy(), b.float().numpy()).x, rtol=1e-10)
    assert solved(a[:0], b[:0]).x.tolist() == [0.0] * 16


@pytest.mark.parametrize("exponent", [-600, -300, 300, 600])
def test_scales_at_the_ends_of_float64(exponent):
    a, b = made(2000, 8, 10.0)
    a = torch.from_numpy(np.ldexp(a.numpy(), exponent))
    for method in ("auto", "qr"):
        got, want = solved(a, b, method=method), sketch.lstsq(a.numpy(), b.numpy(), method=method)
        assert got.certified
        np.testing.assert_allclose(got.x, want.x, rtol=1e-10)


def test_what_is_no_number_is_named():
    a, b = made(3000, 16, 10.0)
    a[1234, 5] = float("nan")
    with pytest.raises(ValueError, match=r"lstsq: A .*1234"):
        solved(a, b)
    with pytest.raises(ValueError, match="lstsq: b has 3 rows; expected 3000, the rows of A"):
        solved(a, b[:3])
    with pytest.raises(ValueError, match=r"lstsq: weights is -1\.0 at row 2"):
        solved(a, b, weights=torch.where(torch.arange(3000) == 2, -1.0, 1.0))
    with pytest.raises(TypeError, match="lstsq: A has dtype bfloat16; expected float32, float64 or integers"):
        solved(a.bfloat16(), b)


def test_a_pass_by_blocks_is_the_pass_at_once(monkeypatch):
    a, b = made(5000, 12, 1e4)
    whole = solved(a, b)
    monkeypatch.setattr(_cuda, "BLOCK_BYTES", 1)
    parts = solved(a, b)
    np.testing.assert_allclose(parts.x, whole.x, rtol=1e-9)
    np.testing.assert_allclose(solved(a, b, method="qr").x, whole.x, rtol=1e-9)
