# Contract: a state built of chunks, in any order and on any machine, is that of the whole; it survives storage; refine() over a source gives what
# lstsq gives on the array; bad chunks leave the state as it was. Oracles: lstsq, and NumPy's QR.
from __future__ import annotations

import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from sketch_oracle import EPS, exact_backward_error, householder_qr, with_condition

from slipstick import sketch
from slipstick.sketch import _files

pytestmark = pytest.mark.kernel

N, D = 5000, 9
RANDOM = np.random.default_rng(0)
A = RANDOM.standard_normal((N, D))
B = A @ np.arange(D) + RANDOM.standard_normal(N)


def state_of(*ranges, kind="srht", **options):
    state = sketch.SketchedLeastSquares(D, kind=kind, seed=3, **options)
    for start, stop in ranges:
        state.partial_fit(A[start:stop], B[start:stop], first_row=start)
    return state


def assert_close(one, other):
    for mine, theirs in ((one._sketch, other._sketch), (one._gram, other._gram)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-9)
    assert one.ranges == other.ranges


@pytest.mark.parametrize("kind", sketch.KINDS)
def test_chunks_in_any_order_and_merged_states_are_the_whole(kind):
    whole = state_of((0, N), kind=kind)
    assert_close(state_of((300, 1000), (0, 300), (1000, N), kind=kind), whole)
    left, right = state_of((0, 777), (3000, N), kind=kind), state_of((777, 3000), kind=kind)
    assert left.rows_seen + right.rows_seen == N
    assert_close(left.merge(right), whole)
    np.testing.assert_allclose(whole._sketch[:, :D], sketch.sketch(A, kind=kind, rows=whole.rows, seed=3), rtol=1e-12, atol=1e-12)


def test_rows_without_numbers_follow_the_last_ones():
    state = sketch.SketchedLeastSquares(D, seed=3)
    for start in range(0, N, 1024):
        state.partial_fit(A[start : start + 1024], B[start : start + 1024])
    assert state.ranges == [(0, N)]
    assert_close(state, state_of((0, N)))


def test_solution_is_that_of_the_array():
    want = sketch.lstsq(A, B)
    got = state_of((0, N)).solve()
    np.testing.assert_allclose(got.x, want.x, rtol=1e-12)
    np.testing.assert_allclose(got.standard_errors, want.standard_errors, rtol=1e-9)
    assert got.method == "gram" and got.passes == 0
    assert exact_backward_error(A, B, got.x) <= 2 * got.backward_error < 1e-13
    ridged = state_of((0, N)).solve(ridge=100.0)
    np.testing.assert_allclose(ridged.x, sketch.lstsq(A, B, ridge=100.0).x, rtol=1e-12)
    weighted = sketch.SketchedLeastSquares(D).partial_fit(A, B, np.arange(N))
    np.testing.assert_allclose(weighted.solve().x, sketch.lstsq(A, B, weights=np.arange(N)).x, rtol=1e-11)


def test_several_targets():
    right = np.stack([B, -2 * B, A[:, 0]], axis=1)
    state = sketch.SketchedLeastSquares(D, targets=3).partial_fit(A, right)
    np.testing.assert_allclose(state.solve().x, sketch.lstsq(A, right).x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("condition", [1e3, 1e9, 1e12])
def test_refine_is_as_good_as_householder_qr(condition):
    random = np.random.default_rng(1)
    hard = with_condition(random, N, D, condition)
    b = hard @ random.standard_normal(D) + random.standard_normal(N) * 1e-3
    chunks = [(hard[i : i + 1000], b[i : i + 1000]) for i in range(0, N, 1000)]
    state = sketch.SketchedLeastSquares(D, seed=1)
    for chunk in chunks:
        state.partial_fit(*chunk)
    first = state.solve()
    assert first.method == ("gram" if condition < 1e7 else "sketch")
    assert exact_backward_error(hard, b, first.x) <= 3 * first.backward_error
    assert state.certificate(first.x) == first.backward_error
    result = state.refine(chunks)
    assert result.certified
    assert exact_backward_error(hard, b, result.x) <= max(2 * exact_backward_error(hard, b, householder_qr(hard, b)), 4 * EPS)
    again = state.refine(lambda: iter(reversed(chunks)))
    assert again.certified
    if condition < 1e7:
        assert result.passes <= 2


def test_refine_takes_deficient_rank():
    twice = np.hstack([A, A[:, :2]])
    state = sketch.SketchedLeastSquares(D + 2).partial_fit(twice, B)
    with pytest.raises(ValueError, match="solve: the columns of A are dependent to working precision"):
        state.solve()
    result = state.refine([(twice, B)])
    np.testing.assert_allclose(result.x, np.linalg.lstsq(twice, B, rcond=1e-12)[0], rtol=1e-10)
    assert result.rank == D and result.certified


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_npy_files_and_arrays_are_sources(tmp_path, dtype):
    np.save(tmp_path / "X.npy", A.astype(dtype))
    np.save(tmp_path / "y.npy", B.astype(dtype))
    want = sketch.lstsq(A.astype(dtype), B.astype(dtype))
    memory = np.load(tmp_path / "X.npy", mmap_mode="r")
    sources = [
        sketch.NpyChunks(tmp_path / "X.npy", tmp_path / "y.npy", rows=333),
        sketch.NpyChunks(tmp_path / "X.npy", tmp_path / "y.npy"),
        sketch.ArrayChunks(memory, B.astype(dtype), rows=1000),
        sketch.ArrayChunks(memory, B.astype(dtype), np.ones(N)),
    ]
    for source in sources:
        state = sketch.SketchedLeastSquares(D)
        for chunk in source:
            state.partial_fit(*chunk)
        assert state.rows_seen == N
        np.testing.assert_allclose(state.refine(source).x, want.x, rtol=1e-12)


@pytest.mark.parametrize("way", ["direct", "cached", "refused at opening", "refused at reading", "plain"])
@pytest.mark.parametrize("rows", [1, 333, 512, 4999, 5000, 9000])
def test_chunks_of_files_are_those_of_the_array_however_they_are_read(tmp_path, monkeypatch, way, rows):
    np.save(tmp_path / "X.npy", A[: 200 if rows == 1 else N].astype(np.float32))
    np.save(tmp_path / "y.npy", B[: 200 if rows == 1 else N])
    direct, opened, used = getattr(os, "O_DIRECT", 0), os.open, []
    if way in ("direct", "refused at reading"):
        monkeypatch.setattr(_files.RangeFile, "_is_cached", lambda *_: False)
    if way == "refused at reading":
        monkeypatch.setattr(_files.RangeFile, "_read_direct", lambda *_: False)
    elif way == "refused at opening":

        def refusing(path, flags, *more):
            if flags & direct:
                raise OSError(22, "Invalid argument")
            return opened(path, flags, *more)

        monkeypatch.setattr(os, "open", refusing)
    elif way == "plain":
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
    plain = _files.RangeFile._read_plain
    monkeypatch.setattr(_files.RangeFile, "_read_plain", lambda *arguments: (used.append("plain"), plain(*arguments)))
    start = 0
    for X, y in sketch.NpyChunks(tmp_path / "X.npy", tmp_path / "y.npy", rows=rows):  # noqa: N806
        assert X.dtype == np.float32 and len(X) == len(y)
        np.testing.assert_array_equal(X, A[start : start + len(X)].astype(np.float32))
        np.testing.assert_array_equal(y, B[start : start + len(y)])
        start += len(X)
    assert start == (200 if rows == 1 else N)
    if way == "cached" and direct:
        assert not used
    elif way not in ("direct", "cached"):  # some file systems have no direct reads
        assert used


def test_a_file_that_shrinks_is_refused_and_an_abandoned_read_closes_its_files(tmp_path):
    for name, values in (("X.npy", A), ("y.npy", B)):
        np.save(tmp_path / name, values)
    source = sketch.NpyChunks(tmp_path / "X.npy", tmp_path / "y.npy", rows=100)
    before = len(os.listdir("/proc/self/fd"))
    chunks = iter(source)
    next(chunks)
    chunks.close()
    assert len(os.listdir("/proc/self/fd")) == before
    os.truncate(tmp_path / "X.npy", 200_000)
    with pytest.raises(ValueError, match=r"NpyChunks: .*X\.npy became shorter while it was read"):
        list(source)
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_without_rows_or_columns_are_sources(tmp_path):
    for shape in ((0, 3), (4, 0)):
        np.save(tmp_path / "X.npy", np.zeros(shape))
        np.save(tmp_path / "y.npy", np.zeros(shape[0]))
        assert [X.shape for X, _ in sketch.NpyChunks(tmp_path / "X.npy", tmp_path / "y.npy")] == ([shape] if shape[0] else [])


def test_lists_and_other_byte_orders_are_sources(tmp_path):
    state, want = state_of((0, 600)), sketch.lstsq(A[:600], B[:600]).x
    np.save(tmp_path / "a.npy", A[:600].astype(">f8"))
    np.save(tmp_path / "b.npy", B[:600].astype(">f8"))
    for source in (
        sketch.ArrayChunks(A[:600].tolist(), B[:600].tolist()),
        sketch.ArrayChunks(A[:600].astype(">f8"), B[:600], np.ones(600).tolist(), rows=100),
        sketch.NpyChunks(tmp_path / "a.npy", tmp_path / "b.npy"),
    ):
        np.testing.assert_allclose(state.refine(source).x, want, rtol=1e-12)


def test_certificate_and_residual_of_a_state_say_what_they_can():
    twice = np.hstack([A[:100], A[:100, :1]])
    right = twice.sum(axis=1)
    state = sketch.SketchedLeastSquares(D + 1).partial_fit(twice, right)
    assert state.certificate(np.ones(D + 1)) < 1e-14 < 0.01 < state.certificate(np.zeros(D + 1))
    exact = sketch.SketchedLeastSquares(D).partial_fit(A[:100], A[:100].sum(axis=1))
    floor = np.sqrt(EPS) * np.linalg.norm(A[:100].sum(axis=1))
    assert floor * (1 - 1e-12) <= exact.solve().residual_norm < 10 * floor  # rounding of the Gram matrix may lie above the floor
    assert sketch.lstsq(A[:3], B[:3], method="gram").method == "qr"


def test_damaged_npy_files_are_refused(tmp_path):
    np.save(tmp_path / "X.npy", A)
    np.save(tmp_path / "y.npy", B[:-1])
    with pytest.raises(ValueError, match="NpyChunks: y has 4999 rows; expected 5000"):
        sketch.NpyChunks(tmp_path / "X.npy", tmp_path / "y.npy")
    np.save(tmp_path / "y.npy", np.asfortranarray(A))
    with pytest.raises(ValueError, match=r"expected float32 or float64 rows in C order"):
        sketch.NpyChunks(tmp_path / "X.npy", tmp_path / "y.npy")
    np.save(tmp_path / "y.npy", B)
    data = (tmp_path / "y.npy").read_bytes()
    (tmp_path / "y.npy").write_bytes(data[:-1])
    with pytest.raises(ValueError, match="is truncated; expected 40000 bytes of data"):
        sketch.NpyChunks(tmp_path / "X.npy", tmp_path / "y.npy")


def test_arrow_batches_and_parquet_row_groups_are_sources(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = [f"x{j}" for j in range(D)]
    table = pyarrow.table({**{name: A[:, j] for j, name in enumerate(names)}, "y": B})
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=1100)
    for source in (table.to_batches(max_chunksize=700), str(tmp_path / "rows.parquet")):
        chunks = sketch.ArrowChunks(source, names, "y")
        state = sketch.SketchedLeastSquares(D)
        for chunk in chunks:
            state.partial_fit(*chunk)
        np.testing.assert_allclose(state.refine(chunks).x, sketch.lstsq(A, B).x, rtol=1e-12)
    with pytest.raises(ValueError, match="column 'y' holds 1 nulls"):
        list(sketch.ArrowChunks(pyarrow.table({"x": [1.0, 2.0], "y": [1.0, None]}).to_batches(), ["x"], "y"))


def test_states_survive_bytes_and_pickle():
    state = state_of((0, 300), (1000, 2000), kind="sjlt")
    for other in (sketch.SketchedLeastSquares.from_bytes(state.to_bytes()), pickle.loads(pickle.dumps(state))):
        assert (other._sketch == state._sketch).all() and (other._gram == state._gram).all()
        assert repr(other) == repr(state) and other.ranges == [(0, 300), (1000, 2000)]
        other.partial_fit(A[300:1000], B[300:1000], first_row=300)
        assert other.ranges == [(0, 2000)]


def test_damaged_bytes_are_refused():
    data = state_of((0, 10)).to_bytes()
    for cut in (0, 5, 20, len(data) - 1):
        with pytest.raises(ValueError, match="from_bytes: "):
            sketch.SketchedLeastSquares.from_bytes(data[:cut])
    for place in range(12, len(data), 97):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="its checksum differs"):
            sketch.SketchedLeastSquares.from_bytes(bytes(damaged))
    for version in (b"\x01", b"\x03"):
        other = data[:11] + version + data[12:-4]
        with pytest.raises(ValueError, match="version of the format"):
            sketch.SketchedLeastSquares.from_bytes(other + struct.pack("<I", zlib.crc32(other)))


def test_rows_of_weight_zero_are_no_observations():
    few = sketch.SketchedLeastSquares(D).partial_fit(A[:50], B[:50])
    weights = np.zeros(2000)
    weights[:50] = 1
    state = sketch.SketchedLeastSquares(D).partial_fit(A[:1000], B[:1000], weights[:1000])
    state.merge(sketch.SketchedLeastSquares(D).partial_fit(A[1000:2000], B[1000:2000], weights[1000:], first_row=1000))
    for each in (state, pickle.loads(pickle.dumps(state))):
        np.testing.assert_allclose(each.solve().standard_errors, few.solve().standard_errors, rtol=1e-8)
        refined = each.refine([(A[:2000], B[:2000], weights)])
        np.testing.assert_allclose(refined.standard_errors, few.solve().standard_errors, rtol=1e-8)


def test_bad_chunks_are_refused_and_change_nothing():
    state = state_of((0, 100))
    before = state.to_bytes()
    spoiled = A[100:200].copy()
    spoiled[7, 3] = np.nan
    for chunk, options, message in [
        ((A[100:200, :3], B[100:200]), {}, "partial_fit: X has 3 columns; expected 9"),
        ((A[100:200], B[100:150]), {}, "partial_fit: y has 50 rows; expected 100, the rows of X"),
        ((A[100:200], A[100:200]), {}, "partial_fit: y has 9 columns; expected 1"),
        ((spoiled, B[100:200]), {}, "partial_fit: X is nan at row 7, column 3; expected finite numbers"),
        ((A[100:200], B[100:200], -np.ones(100)), {}, "partial_fit: weights is -1.0 at row 0; expected finite numbers of 0 or more"),
        ((A[100:200], B[100:200]), {"first_row": 50}, "partial_fit: rows 50 to 99 were seen before; expected new row numbers"),
        ((A[100:200], B[100:200]), {"first_row": -1}, "partial_fit: first_row is -1; expected 0 to 2^63 - 1"),
        ((1e200 * A[100:200], B[100:200]), {}, "partial_fit: X or y has entries whose squares overflow; expected magnitudes below 1e150"),
    ]:
        with pytest.raises(ValueError) as caught:
            state.partial_fit(*chunk, **options)
        assert str(caught.value) == message
    assert state.to_bytes() == before


def test_states_that_do_not_belong_together_are_refused():
    state = state_of((0, 100))
    with pytest.raises(ValueError, match="merge: rows 50 to 99 were seen before"):
        state.merge(state_of((50, 200)))
    with pytest.raises(ValueError, match="merge: seed is 0 in other; expected 3"):
        state.merge(sketch.SketchedLeastSquares(D))
    with pytest.raises(ValueError, match="merge: kind is 'sjlt' in other; expected 'srht'"):
        state.merge(state_of((100, 200), kind="sjlt"))
    with pytest.raises(TypeError, match="merge: other is int"):
        state.merge(3)


def test_sources_that_do_not_fit_the_state_are_refused():
    state = state_of((0, N))
    with pytest.raises(ValueError, match="source is an iterator, which can be read once"):
        state.refine(iter([(A, B)]))
    with pytest.raises(ValueError, match="refine: source gave 4000 rows; expected 5000"):
        state.refine([(A[:4000], B[:4000])])
    with pytest.raises(TypeError, match="a chunk is ndarray; expected"):
        state.refine([A])
    with pytest.raises(ValueError, match="refine: source gave 100 rows; expected 0"):
        state_of().refine([(A[:100], B[:100])])


@pytest.mark.parametrize("magnitude", [1e-80, 1e80, 1e-150])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_refine_takes_any_magnitude(magnitude, ridge):
    X = np.hstack([A[:300, :2], A[:300, :1]])  # noqa: N806
    want = sketch.lstsq(X, B[:300], ridge=ridge)
    state = sketch.SketchedLeastSquares(3).partial_fit(magnitude * X, magnitude * B[:300])
    result = state.refine(
        [(magnitude * X[:200], magnitude * B[:200]), (magnitude * X[200:], magnitude * B[200:300])], ridge=magnitude**2 * ridge
    )
    assert result.certified and result.rank == want.rank
    np.testing.assert_allclose(result.x, want.x, rtol=1e-9)
    np.testing.assert_allclose(result.residual_norm, magnitude * want.residual_norm, rtol=1e-9)
    np.testing.assert_allclose(result.standard_errors, want.standard_errors, rtol=1e-6)
