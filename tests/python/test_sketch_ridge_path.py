# Contract: a ridge path is lstsq at each penalty, to the error it states; effective degrees and generalized cross-validation are those of the
# definition. Oracle: NumPy on the stacked problem, the hat matrix itself.
from __future__ import annotations

import numpy as np
import pytest
from sketch_oracle import deficient_problem, with_condition

from slipstick import sketch

pytestmark = pytest.mark.kernel

RIDGES = np.array([0.0, 1e-6, 1e-2, 1.0, 1e3])


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e8])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_point_is_the_ridge_solution(condition, weighted):
    random = np.random.default_rng(1)
    A = 30 * with_condition(random, 2000, 20, condition)  # noqa: N806
    b = A @ random.standard_normal((20, 2)) + random.standard_normal((2000, 2))
    weights = random.random(2000) + 0.1 if weighted else np.ones(2000)
    path = sketch.ridge_path(A, b, RIDGES, weights=weights if weighted else None)
    scale = np.sqrt(weights)[:, None]
    for i, ridge in enumerate(RIDGES):
        stacked = np.vstack([scale * A, np.sqrt(ridge) * np.eye(20)])
        want = np.linalg.lstsq(stacked, np.vstack([scale * b, np.zeros((20, 2))]), rcond=None)[0]
        np.testing.assert_allclose(path.x[i], want, rtol=0, atol=1e-7 * np.abs(want).max())
        np.testing.assert_allclose(path.residual_norms[i], np.linalg.norm(scale * (b - A @ want), axis=0), rtol=1e-8)
        if condition < 1e8 or ridge >= 1e-2:
            hat = scale * A @ np.linalg.solve(A.T @ (weights[:, None] * A) + ridge * np.eye(20), (scale * A).T)
            np.testing.assert_allclose(path.effective_degrees[i], np.trace(hat), rtol=1e-6)
            score = 2000 * path.residual_norms[i] ** 2 / (2000 - np.trace(hat)) ** 2
            np.testing.assert_allclose(path.generalized_cross_validation[i], score, rtol=1e-8)


def test_best_is_the_least_score_and_helps_on_new_rows():
    random = np.random.default_rng(2)
    x = random.standard_normal(60)
    A, new = random.standard_normal((80, 60)), random.standard_normal((2000, 60))  # noqa: N806
    path = sketch.ridge_path(A, A @ x + 10 * random.standard_normal(80), np.geomspace(1e-3, 1e4, 30))
    errors = [np.mean((new @ (each - x)) ** 2) for each in path.x]
    assert path.best == np.argmin(path.generalized_cross_validation)
    assert errors[path.best] < 1.3 * min(errors) < errors[0]


def test_rows_of_weight_zero_change_nothing():
    random = np.random.default_rng(4)
    A, b, weights = random.standard_normal((800, 30)), random.standard_normal(800), np.zeros(800)  # noqa: N806
    weights[:50] = random.random(50) + 0.5
    path = sketch.ridge_path(A, b, RIDGES, weights=weights)
    want = sketch.ridge_path(A[:50], b[:50], RIDGES, weights=weights[:50])
    np.testing.assert_allclose(path.generalized_cross_validation, want.generalized_cross_validation, rtol=1e-8)
    assert path.best == want.best
    for none in (sketch.ridge_path(A[:0], b[:0], RIDGES), sketch.ridge_path(A, b, RIDGES, weights=np.zeros(800))):
        assert (none.x == 0).all() and np.isposinf(none.generalized_cross_validation).all()


@pytest.mark.parametrize("of_a", [1e-170, 1e-80, 1e80, 1e160])
@pytest.mark.parametrize("of_b", [1e-160, 1.0, 1e160])
def test_magnitudes_of_any_size(of_a, of_b):
    random = np.random.default_rng(5)
    A, b = random.standard_normal((300, 6)), random.standard_normal(300)  # noqa: N806
    want = sketch.ridge_path(A, b, [0.0, 1.0])
    penalties = [0.0] if of_a in (1e-170, 1e160) else [0.0, of_a**2]  # squares of these are no doubles
    within = 1e-290 < of_b / of_a < 1e300  # what x can hold
    with np.errstate(all="raise", under="ignore", over="raise" if within else "ignore"):
        path = sketch.ridge_path(of_a * A, of_b * b, penalties)
    for i in range(len(path.ridges)):
        if within:
            np.testing.assert_allclose(path.x[i] / of_b * of_a, want.x[i], rtol=1e-7)
        np.testing.assert_allclose(path.residual_norms[i], of_b * want.residual_norms[i], rtol=1e-7)
        np.testing.assert_allclose(path.effective_degrees[i], want.effective_degrees[i], rtol=1e-7)
    with np.errstate(all="raise", under="ignore"):
        swamped = sketch.ridge_path(1e-170 * A, b, [1.0])
    assert (np.abs(swamped.x) < 1e-160).all() and swamped.effective_degrees[0] == 0
    np.testing.assert_allclose(swamped.residual_norms[0], np.linalg.norm(b), rtol=1e-12)


def test_deficient_rank_at_zero_gives_the_least_norm():
    for seed in range(50):
        A, b, _ = deficient_problem(seed)  # noqa: N806
        np.testing.assert_allclose(sketch.ridge_path(A, b, [0.0]).x[0], sketch.lstsq(A, b).x, rtol=1e-7, atol=1e-9)


def test_one_read_where_the_condition_allows():
    A = np.random.default_rng(3).standard_normal((500, 5))  # noqa: N806
    path = sketch.ridge_path(A, A[:, 0], RIDGES)
    assert path.passes == 1 and path.x.shape == (5, 5) and path.residual_norms.shape == (5,)


def test_bad_arguments_are_refused_by_name():
    A, b = np.ones((4, 2)), np.ones(4)  # noqa: N806
    for ridges, message in (
        ([1.0, -2.0], "ridge_path: ridges is -2.0; expected a finite number of 0 or more"),
        ([[1.0]], "ridge_path: ridges has 2 dimensions; expected 1"),
    ):
        with pytest.raises(ValueError) as caught:
            sketch.ridge_path(A, b, ridges)
        assert str(caught.value) == message
    with pytest.raises(ValueError, match="best: ridges is empty; expected one penalty or more"):
        _ = sketch.ridge_path(A, b, []).best
    b[2] = np.nan
    with pytest.raises(ValueError, match="ridge_path: b is nan at row 2, column 0"):
        sketch.ridge_path(A, b, [1.0])
