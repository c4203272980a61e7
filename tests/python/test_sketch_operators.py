# Contract: a sketch is a linear map of the rows, keyed by their global numbers: parts add up in any order, E[S^T S] = I, and the stream behind it
# is Philox by definition. Oracles: S itself (the sketch of the identity), and the stream of slipstick._core.random_bytes.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import _core, sketch

pytestmark = pytest.mark.kernel

EVERY_KIND = [("srht", None), ("sjlt", 8), ("sjlt", 3), ("sjlt", 1), ("countsketch", None), ("gaussian", None), ("gaussian_pooled", None)]


def operator(n, **options):
    return sketch.sketch(np.eye(n), **options)


@pytest.mark.parametrize(("kind", "nonzeros"), EVERY_KIND)
@pytest.mark.parametrize("rows", [9, 64, 301])
def test_equals_the_operator_times_the_matrix(kind, nonzeros, rows):
    random = np.random.default_rng(0)
    S = operator(700, kind=kind, rows=rows, seed=5, nonzeros=nonzeros)  # noqa: N806
    for d in (1, 3, 4, 13, 37, 100):
        A = random.standard_normal((700, d))  # noqa: N806
        for given in (A, np.asfortranarray(A), A.astype(np.float32)):
            got = sketch.sketch(given, kind=kind, rows=rows, seed=5, nonzeros=nonzeros)
            np.testing.assert_allclose(got, S @ given.astype(np.float64), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("kind", "nonzeros"), EVERY_KIND)
def test_parts_add_up_in_any_order(kind, nonzeros):
    random = np.random.default_rng(1)
    A, weights = random.standard_normal((5000, 7)), random.random(5000)  # noqa: N806
    options = {"kind": kind, "nonzeros": nonzeros, "rows": 40, "seed": 1 << 63}
    whole = sketch.sketch(A, weights=weights, **options)
    total = np.zeros_like(whole)
    for start, stop in ((4999, 5000), (0, 130), (1700, 4999), (130, 1700)):
        total += sketch.sketch(A[start:stop], weights=weights[start:stop], first_row=start, **options)
    np.testing.assert_allclose(total, whole, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(whole, sketch.sketch(A * np.sqrt(weights)[:, None], **options), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("kind", "nonzeros"), EVERY_KIND)
def test_bitwise_equal_for_any_number_of_threads(kind, nonzeros):
    A = np.random.default_rng(2).standard_normal((30_000, 5))  # noqa: N806
    bits = {sketch.sketch(A, kind=kind, nonzeros=nonzeros, rows=24, seed=9, threads=t).tobytes() for t in (1, 2, 3, 8)}
    assert len(bits) == 1


@pytest.mark.parametrize("nonzeros", [1, 4, 7])
def test_sparse_entries_come_from_the_stream_as_defined(nonzeros):
    rows, n, seed, first = 50, 20, 77, (1 << 32) - 10
    S = operator(n, kind="sjlt", rows=rows, seed=seed, nonzeros=nonzeros, first_row=first)  # noqa: N806
    want = np.zeros((rows, n))
    blocks = -(-nonzeros // 4)
    words = np.frombuffer(_core.random_bytes(seed, 0x736A6C74, first * blocks, n * blocks), np.uint32).reshape(n, 4 * blocks)
    for i in range(n):
        for q in range(nonzeros):
            low, high = q * rows // nonzeros, (q + 1) * rows // nonzeros
            word = int(words[i, q])
            want[low + (word * (high - low) >> 32), i] = (-1 if word & 1 else 1) / np.sqrt(nonzeros)
    np.testing.assert_array_equal(S, want)


def test_gaussian_entries_come_from_the_stream_as_defined():
    rows, n, seed = 23, 5, 123
    S = operator(n, kind="gaussian", rows=rows, seed=seed)  # noqa: N806
    blocks = -(-rows // 4)
    words = np.frombuffer(_core.random_bytes(seed, 0x67617573, 0, n * blocks), np.uint32).reshape(n, blocks, 4)
    uniform, turn = (words[..., ::2] + 0.5) * 2.0**-32, 2 * np.pi * words[..., 1::2] * 2.0**-32
    radius = np.sqrt(-2 * np.log(uniform))
    pairs = np.stack([radius * np.cos(turn), radius * np.sin(turn)])  # [2, n, blocks, half]
    want = np.concatenate([pairs[part, :, :, half] for half in (0, 1) for part in (0, 1)], axis=1)[:, :rows] / np.sqrt(rows)
    np.testing.assert_allclose(S.T, want, rtol=1e-13, atol=1e-15)


def test_srht_entries_come_from_the_stream_as_defined():
    """S = sqrt(N / m) times m rows of H_N D P / sqrt(N), by the definition of Walsh and Hadamard: H[i, j] = (-1)^popcount(i & j)."""
    block, rows, blocks, seed = 512, 600, 5, 31
    n = block * blocks
    sample = np.frombuffer(_core.random_bytes(seed, 0x73616D70, 0, 3 * block // 4), np.uint32)
    order = permutation(sample[:block])
    inside = np.array([[(low & place).bit_count() for place in range(block)] for low in range(block)])
    odd = np.zeros((rows, n), int)
    for k in range(blocks):
        part = block // 4 + block // 128
        words = np.frombuffer(_core.random_bytes(seed, 0x73726874, k * part, part), np.uint32)
        sources = permutation(words[:block])
        signs = np.array([int(words[block + place // 32]) >> place % 32 & 1 for place in range(block)])
        for j in range(rows):
            low = order[j % block]
            pair = [int(word) for word in sample[block + 2 * low : block + 2 * low + 2]]
            high = (pair[1] << 32 | pair[0]) ^ (j // block * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
            odd[j, [k * block + source for source in sources]] = (high & k).bit_count() + inside[low] + signs
    want = (-1.0) ** odd
    S = operator(n, kind="srht", rows=rows, seed=seed)  # noqa: N806
    np.testing.assert_allclose(S, want / np.sqrt(rows), rtol=1e-15)


def permutation(words):
    places = list(range(len(words)))
    for i in range(len(words) - 1, 0, -1):
        j = int(words[i]) * (i + 1) >> 32
        places[i], places[j] = places[j], places[i]
    return places


def test_pooled_rows_are_sums_of_the_transforms_rows_times_normals():
    rows, seed = 21, 6
    drawn = 8 * rows
    words = np.frombuffer(_core.random_bytes(seed, 0x706F6F6C, 0, drawn // 4), np.uint32).reshape(-1, 4)
    uniform, turn = (words[:, ::2] + 0.5) * 2.0**-32, 2 * np.pi * words[:, 1::2] * 2.0**-32
    radius = np.sqrt(-2 * np.log(uniform))
    normals = np.concatenate([part[:, half] for half in (0, 1) for part in (radius * np.cos(turn), radius * np.sin(turn))])
    want = (normals[:, None] * operator(700, kind="srht", rows=drawn, seed=seed)).reshape(rows, 8, 700).sum(axis=1)
    np.testing.assert_allclose(operator(700, kind="gaussian_pooled", rows=rows, seed=seed), want, rtol=1e-11, atol=1e-13)


def test_srht_of_as_many_rows_as_the_matrix_is_orthogonal():
    for n in (512, 1024):
        S = operator(n, kind="srht", rows=n, seed=7)  # noqa: N806
        np.testing.assert_allclose(S @ S.T, np.eye(n), atol=1e-12)


def test_gaussian_entries_are_normal_and_independent():
    z = operator(4000, kind="gaussian", rows=100, seed=4) * 10
    count = z.size
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(z**power) - moment) < 5 * np.sqrt(variance / count)
    assert abs(np.mean(z[:50] * z[50:])) < 5 / np.sqrt(count / 2)
    assert abs(np.mean(np.abs(z) > 3) - 0.0026998) < 5 * np.sqrt(0.0027 / count)


@pytest.mark.parametrize(("kind", "nonzeros"), EVERY_KIND)
def test_norms_are_kept_on_average(kind, nonzeros):
    x = np.random.default_rng(3).standard_normal((200, 1))
    norms = [np.sum(sketch.sketch(x, kind=kind, rows=32, seed=seed, nonzeros=nonzeros) ** 2) for seed in range(400)]
    deviation = np.sqrt(2 / 32) * np.sum(x**2)
    assert abs(np.mean(norms) - np.sum(x**2)) < 5 * deviation / np.sqrt(400)


@pytest.mark.parametrize(("kind", "nonzeros"), [("srht", None), ("sjlt", 8), ("gaussian", None), ("gaussian_pooled", None)])
def test_distortion_of_a_subspace_is_near_that_of_theory(kind, nonzeros):
    d, rows = 20, 320
    coherent = np.eye(4000, d)
    for q in (np.linalg.qr(np.random.default_rng(4).standard_normal((4000, d)))[0], coherent):
        for seed in range(10):
            s = np.linalg.svd(sketch.sketch(q, kind=kind, rows=rows, seed=seed, nonzeros=nonzeros), compute_uv=False)
            bound = np.sqrt(d / rows) + 0.15
            assert 1 - bound < s[-1] and s[0] < 1 + bound


@pytest.mark.parametrize("kind", sketch.KINDS)
def test_sparse_matrices_are_their_dense_selves(kind):
    sparse = pytest.importorskip("scipy.sparse")
    random = np.random.default_rng(6)
    A = random.standard_normal((5000, 600)) * (random.random((5000, 600)) < 0.02)  # noqa: N806
    weights, want = random.random(5000), None
    options = {"kind": kind, "rows": 40, "seed": 2, "first_row": 7, "weights": weights}
    want = sketch.sketch(A, **options)
    for given in (sparse.csr_matrix(A), sparse.csc_array(A), sparse.csr_matrix(A.astype(np.float32))):
        rtol = 1e-10 if given.dtype == np.float64 else 1e-5
        np.testing.assert_allclose(sketch.sketch(given, **options), want, rtol=rtol, atol=rtol)


def test_nan_stays_in_its_column():
    A = np.ones((300, 5))  # noqa: N806
    A[7, 2] = np.nan
    for kind in sketch.KINDS:
        S = sketch.sketch(A, kind=kind, rows=10)  # noqa: N806
        assert np.isnan(S[:, 2]).any() and np.isfinite(S[:, [0, 1, 3, 4]]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rows": 0}, ValueError, "sketch: rows is 0; expected 1 or more"),
        ({"rows": 2.5}, TypeError, "sketch: rows is 2.5; expected a whole number"),
        ({"kind": "haar"}, ValueError, f"sketch: kind is 'haar'; expected one of {', '.join(map(repr, sketch.KINDS))}"),
        ({"kind": "sjlt", "nonzeros": 9}, ValueError, "sketch: nonzeros is 9; expected 1 to 8"),
        (
            {"kind": "gaussian", "nonzeros": 2},
            ValueError,
            "sketch: nonzeros is 2 with kind 'gaussian'; expected none, it belongs to 'sjlt'",
        ),
        ({"first_row": -1}, ValueError, "sketch: first_row is -1; expected 0 to 2^63 - 1"),
        ({"seed": 1 << 64}, ValueError, f"sketch: seed is {1 << 64}; expected 0 to 2^64 - 1"),
        ({"weights": [-1.0] * 3}, ValueError, "sketch: weights is -1.0 at row 0; expected finite numbers of 0 or more"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, error, message):
    with pytest.raises(error) as caught:
        sketch.sketch(np.ones((3, 2)), **{"rows": 8, **options})
    assert str(caught.value) == message


# ---- Kronecker products


def kronecker(*shapes, seed=0):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape) for shape in shapes]


def test_kronecker_sketch_is_a_tensor_srht_by_the_stream_as_defined():
    """S[j, (i1, i2)] = s1[j, i1] s2[j, i2] / sqrt(m), each s the Hadamard entries of rows that the stream draws with replacement."""
    rows, seed = 60, 31
    factors, shape = [], (600, 5)
    for purpose, n in zip((0, 256), shape):
        sample = np.frombuffer(_core.random_bytes(seed, 0x74656E73 + purpose, 0, rows), np.uint32).reshape(-1, 4)
        odd = np.zeros((rows, -(-n // 512) * 512), int)
        for k in range(-(-n // 512)):
            part = 512 // 4 + 512 // 128
            words = np.frombuffer(_core.random_bytes(seed, 0x74656E62 + purpose, k * part, part), np.uint32)
            signs = np.array([int(words[512 + place // 32]) >> place % 32 & 1 for place in range(512)])
            for j, (low, _, bits, more) in enumerate(sample.tolist()):
                inside = np.array([(low % 512 & place).bit_count() for place in range(512)])
                odd[j, [k * 512 + source for source in permutation(words[:512])]] = ((more << 32 | bits) & k).bit_count() + inside + signs
        factors.append((-1.0) ** odd[:, :n])
    want = (factors[0][:, :, None] * factors[1][:, None, :]).reshape(rows, -1) / np.sqrt(rows)
    S = sketch.kronecker_sketch(*map(np.eye, shape), rows=rows, seed=seed)  # noqa: N806
    np.testing.assert_allclose(S, want, rtol=1e-14)


def test_kronecker_sketch_equals_the_operator_times_the_product():
    sparse = pytest.importorskip("scipy.sparse")
    A, B = kronecker((30, 4), (20, 3))  # noqa: N806
    S = sketch.kronecker_sketch(np.eye(30), np.eye(20), rows=50, seed=5)  # noqa: N806
    strided = np.zeros((40, 6))
    strided[::2, ::2] = B
    for a in (A, np.asfortranarray(A), A.astype(np.float32), sparse.csr_matrix(A)):
        for b in (B, strided[::2, ::2], B[::-1].copy()[::-1], sparse.csc_array(B)):
            got = sketch.kronecker_sketch(a, b, rows=50, seed=5)
            rtol = 1e-6 if a.dtype == np.float32 else 1e-11
            np.testing.assert_allclose(got, S @ np.kron(A, B), rtol=rtol, atol=rtol)
    bits = {sketch.kronecker_sketch(*kronecker((9000, 2), (5000, 3)), rows=30, threads=t).tobytes() for t in (1, 2, 3, 8)}
    assert len(bits) == 1


def test_kronecker_sketches_of_parts_of_either_factor_add_up():
    A, B = kronecker((1500, 3), (700, 2))  # noqa: N806
    options = {"rows": 40, "seed": 1 << 63}
    total = np.zeros((40, 6))
    for top, bottom in ((700, 1500), (0, 700)):
        for left, right in ((0, 100), (650, 700), (100, 650)):
            total += sketch.kronecker_sketch(A[top:bottom], B[left:right], first_rows=(top, left), **options)
    np.testing.assert_allclose(total, sketch.kronecker_sketch(A, B, **options), rtol=1e-10, atol=1e-10)


def test_distortion_of_a_kronecker_subspace_is_near_that_of_theory():
    rows = 640
    for shapes in (((600, 4), (900, 5)), ((4, 4), (5, 5))):  # the second: energy in few rows
        q1, q2 = (np.linalg.qr(part)[0] for part in kronecker(*shapes, seed=4))
        for seed in range(10):
            s = np.linalg.svd(sketch.kronecker_sketch(q1, q2, rows=rows, seed=seed), compute_uv=False)
            bound = np.sqrt(20 / rows) + 0.15
            assert 1 - bound < s[-1] and s[0] < 1 + bound


def test_bad_factors_are_refused_by_name():
    for change, error, message in [
        ({"A2": np.ones(3)}, ValueError, "kronecker_sketch: A2 has 1 dimensions; expected 2"),
        ({"A1": np.ones((3, 1), complex)}, TypeError, "kronecker_sketch: A1 has dtype complex128; expected float32, float64 or integers"),
        ({"rows": 0}, ValueError, "kronecker_sketch: rows is 0; expected 1 or more"),
        ({"first_rows": 3}, TypeError, "kronecker_sketch: first_rows is 3; expected two whole numbers"),
        ({"first_rows": (0, -1)}, ValueError, "kronecker_sketch: first_rows[1] is -1; expected 0 to 2^63 - 1"),
    ]:
        given = {"A1": np.ones((3, 2)), "A2": np.ones((3, 2)), "rows": 8, **change}
        with pytest.raises(error) as caught:
            sketch.kronecker_sketch(given.pop("A1"), given.pop("A2"), **given)
        assert str(caught.value) == message


def test_empty_matrices():
    assert (sketch.sketch(np.ones((0, 3)), rows=4) == 0).all()
    assert sketch.sketch(np.ones((5, 0)), rows=4).shape == (4, 0)
