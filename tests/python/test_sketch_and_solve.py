# Contract: the intervals of sketch_and_solve hold the exact solution as often as they say: exactly for Gaussian sketches, measured for the Hadamard
# transform, on data of several kinds. Oracle: NumPy's least squares.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import sketch

N, D, SEEDS = 1024, 8, 150


def families():
    random = np.random.default_rng(0)
    plain = random.standard_normal((N, D))
    noise = random.standard_normal(N)
    spiky = np.zeros((N, D))
    spiky[:D] = np.eye(D)
    spikes = np.zeros(N)
    spikes[D : D + 64] = 1 / 8
    return {
        "random": (plain, plain.sum(axis=1) + noise),
        "spiky": (spiky, spikes + 0.1 * noise / np.sqrt(N)),
        "collinear": (plain @ (np.ones((D, D)) + 0.01 * np.eye(D)), noise),
        "heavy tails": (random.standard_t(3, (N, D)), random.standard_t(3, N)),
        "graded columns": (plain * np.geomspace(1, 1e-6, D), noise),
    }


@pytest.mark.parametrize("kind", ["gaussian", "srht", "gaussian_pooled"])
@pytest.mark.parametrize("name", families())
def test_intervals_hold_the_exact_solution_as_often_as_they_say(kind, name):
    A, b = families()[name]  # noqa: N806
    exact = np.linalg.lstsq(A, b, rcond=None)[0]
    held = []
    for seed in range(SEEDS):
        low, high = sketch.sketch_and_solve(A, b, kind=kind, rows=24 * D, seed=seed).interval(0.95)
        held.append((low <= exact) & (exact <= high))
    # Coefficients of one draw depend on each other, so the deviation is taken between draws.
    shares = np.mean(held, axis=1)
    margin = 0.005 + 4 * np.std(shares) / np.sqrt(SEEDS)
    assert np.mean(shares) > 0.95 - margin
    # Energy in one block of rows: samples of its orthogonal transform err less than Gaussian ones.
    if kind == "gaussian" or name != "spiky":
        assert np.mean(shares) < 0.95 + margin


def test_error_falls_with_the_rows_and_the_residual_is_estimated():
    A, b = families()["random"]  # noqa: N806
    exact = np.linalg.lstsq(A, b, rcond=None)[0]
    norm = np.linalg.norm(b - A @ exact)
    for rows in (64, 1024):
        errors = []
        for seed in range(20):
            solution = sketch.sketch_and_solve(A, b, rows=rows, seed=seed)
            errors.append(np.linalg.norm(A @ (solution.x - exact)) / norm)
            assert abs(solution.residual_norm / norm - 1) < 5 / np.sqrt(2 * (rows - D))
        assert np.mean(errors) < 1.5 * np.sqrt(D / (rows - D))


@pytest.mark.parametrize(("n", "rows"), [(500, 640), (500, 300), (300, 700), (900, 1500)])
def test_bars_of_the_transform_hold_for_any_number_of_rows(n, rows):
    # Of a transform of 512 rows, 640 and 700 take some twice and the others once.
    random = np.random.default_rng(0)
    A, b = random.standard_normal((n, 20)), random.standard_normal(n)  # noqa: N806
    exact = np.linalg.lstsq(A, b, rcond=None)[0]
    norm = np.linalg.norm(b - A @ exact)
    held, ratios, norms = [], [], []
    for seed in range(60):
        solution = sketch.sketch_and_solve(A, b, rows=rows, seed=seed, threads=1)
        low, high = solution.interval(0.95)
        held.append((low <= exact) & (exact <= high))
        ratios.append((solution.x - exact) / solution.standard_errors)
        norms.append(solution.residual_norm / norm)
    assert 0.92 < np.mean(held) < 0.98
    assert 0.9 < np.std(ratios) < 1.1
    assert abs(np.mean(norms) - 1) < 0.01 + 4 * np.std(norms) / np.sqrt(60)


def test_twice_the_whole_transform_is_exact_and_says_so():
    random = np.random.default_rng(0)
    A, b = random.standard_normal((500, 40)), random.standard_normal(500)  # noqa: N806
    exact = sketch.lstsq(A, b)
    solution = sketch.sketch_and_solve(A, b, rows=1024)
    np.testing.assert_allclose(solution.x, exact.x, atol=1e-12)
    assert (solution.standard_errors == 0).all()
    assert abs(solution.residual_norm / exact.residual_norm - 1) < 1e-12


def test_weights_ridge_and_several_right_hand_sides():
    random = np.random.default_rng(3)
    A, b, weights = random.standard_normal((N, D)), random.standard_normal((N, 2)), random.random(N)  # noqa: N806
    for ridge in (0.0, 300.0):
        exact = sketch.lstsq(A, b, weights=weights, ridge=ridge).x
        solution = sketch.sketch_and_solve(A, b, weights=weights, ridge=ridge, rows=1024, seed=1)
        assert solution.x.shape == solution.standard_errors.shape == (D, 2)
        assert (np.abs(solution.x - exact) < 6 * solution.standard_errors + 0.05 * np.abs(exact)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 8}, "sketch_and_solve: rows is 8; expected more than 8, the columns of A"),
        ({"kind": "haar"}, f"sketch_and_solve: kind is 'haar'; expected one of {', '.join(map(repr, sketch.KINDS))}"),
        ({"weights": [1.0]}, f"sketch_and_solve: weights has 1 rows; expected {N}, the rows of A"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, message):
    A, b = families()["random"]  # noqa: N806
    with pytest.raises(ValueError) as caught:
        sketch.sketch_and_solve(A, b, **change)
    assert str(caught.value) == message


def test_nan_and_deficient_rank_are_refused():
    A, b = families()["random"]  # noqa: N806
    with pytest.raises(ValueError, match="columns of A are dependent"):
        sketch.sketch_and_solve(np.hstack([A, A[:, :1]]), b)
    b = b.copy()
    b[5] = np.inf
    with pytest.raises(ValueError, match="sketch_and_solve: b is inf at row 5, column 0"):
        sketch.sketch_and_solve(A, b)
    with pytest.raises(ValueError, match="interval: level is 95; expected a number between 0 and 1"):
        sketch.sketch_and_solve(A, A[:, 0]).interval(95)
