# Contract: partial_fit_dask leaves the state of all rows, the same bits for any workers, and refuses what partial_fit refuses. Oracle: partial_fit.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import sketch

array = pytest.importorskip("dask.array")

RANDOM = np.random.default_rng(0)
A, B = RANDOM.standard_normal((5000, 6)), RANDOM.standard_normal((5000, 2))
WEIGHTS = RANDOM.integers(0, 3, 5000)


def fitted(X, y, weight=None, **options):  # noqa: N803
    return sketch.SketchedLeastSquares(6, targets=2, seed=4).partial_fit_dask(X, y, weight, **options)


@pytest.fixture(scope="module")
def workers():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_local_workers_give_the_state_of_all_rows(workers):
    X, y, weight = array.from_array(A, chunks=(512, 6)), array.from_array(B, chunks=(1000, 1)), array.from_array(WEIGHTS, chunks=700)  # noqa: N806
    state = fitted(X, y, weight)
    want = sketch.SketchedLeastSquares(6, targets=2, seed=4).partial_fit(A, B, WEIGHTS)
    assert state.ranges == [(0, 5000)] and state._observations == want._observations
    np.testing.assert_allclose(state._gram, want._gram, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(state._sketch, want._sketch, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(state.solve().x, sketch.lstsq(A, B, weights=WEIGHTS).x, rtol=1e-11, atol=1e-14)
    # Another scheduler, another number of workers: the sums are those of the same tree.
    import dask

    with dask.config.set(scheduler="synchronous"):
        assert fitted(X, y, weight).to_bytes() == state.to_bytes()
    assert len(workers.scheduler_info()["workers"]) == 2


def test_rows_follow_those_seen_and_columns_may_be_in_chunks():
    state = sketch.SketchedLeastSquares(6, targets=2, seed=4).partial_fit(A[:700], B[:700])
    state.partial_fit_dask(array.from_array(A[700:], chunks=(900, 2)), B[700:])
    want = sketch.SketchedLeastSquares(6, targets=2, seed=4).partial_fit(A, B)
    assert state.ranges == [(0, 5000)]
    np.testing.assert_allclose(state._sketch, want._sketch, rtol=1e-12, atol=1e-12)


def test_bad_arrays_are_refused_and_change_nothing():
    state = sketch.SketchedLeastSquares(6, targets=2, seed=4).partial_fit(A[:700], B[:700])
    before = state.to_bytes()
    X, y = array.from_array(A[700:1000], chunks=(100, 6)), array.from_array(B[700:1000], chunks=(100, 2))  # noqa: N806
    spoiled = A[700:1000].copy()
    spoiled[207, 3] = np.nan
    for given, options, error, message in [
        ((A, B), {}, TypeError, "partial_fit_dask: X is ndarray; expected a Dask array of two dimensions"),
        ((X, y[:-1]), {}, ValueError, "partial_fit_dask: y has shape (299, 2); expected 300 rows, those of X"),
        ((X, y), {"first_row": 50}, ValueError, "partial_fit_dask: rows 50 to 349 were seen before; expected new row numbers"),
        (
            (array.from_array(spoiled, chunks=(100, 6)), y),
            {},
            ValueError,
            "partial_fit: X is nan at row 7, column 3; expected finite numbers (in the chunk of rows 900 to 999)",
        ),
        ((X[X[:, 0] > 0], y), {}, ValueError, "partial_fit_dask: X has chunks of unknown length; expected known ones"),
    ]:
        with pytest.raises(error) as caught:
            state.partial_fit_dask(*given, **options)
        assert str(caught.value).startswith(message)
    assert state.to_bytes() == before
