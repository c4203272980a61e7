# Contract: what lstsq certifies is as accurate as Householder QR, its certificate is the Karlson-Walden estimate, and it is right, or says that
# it is not, or refuses by name. Oracles: the exact estimate in sketch_oracle.py, NumPy's SVD and QR.
from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sketch_oracle import EPS, deficient_problem, exact_backward_error, full_rank_problem, householder_qr, with_condition

from slipstick import sketch
from slipstick.sketch import _solvers
from slipstick.sketch._problem import Problem

pytestmark = pytest.mark.kernel

MOST_UNCERTIFIED = 0.02  # of full-rank cases, by auto


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return sketch.lstsq(*arguments, **options)


def assert_as_good_as_qr(A, b, result, note):  # noqa: N803
    exact = exact_backward_error(A, b, result.x)
    allowed = max(2 * exact_backward_error(A, b, householder_qr(A, b)), 4 * EPS)
    assert exact <= allowed, (note, result.method, exact, allowed)


@pytest.mark.parametrize(
    ("method", "seeds"),
    [
        *((method, range(250)) for method in sketch.METHODS),
        *(pytest.param(method, range(250, 4000), marks=pytest.mark.long) for method in sketch.METHODS),
    ],
)
def test_certified_solutions_are_as_good_as_householder_qr(method, seeds):
    certified = 0
    for seed in seeds:
        A, b = full_rank_problem(seed)  # noqa: N806
        result = quietly(A, b, method=method, seed=seed)
        if result.certified and result.rank == A.shape[1]:
            assert_as_good_as_qr(A, b, result, seed)
            certified += 1
    assert certified >= (1 - MOST_UNCERTIFIED if method in ("auto", "qr") else 0.5) * len(seeds)


def test_auto_never_reports_more_than_it_measures():
    for seed in range(150):
        A, b = full_rank_problem(seed)  # noqa: N806
        result = quietly(A, b, seed=seed)
        exact = exact_backward_error(A, b, result.x)
        assert exact <= 2 * result.backward_error + 2 * EPS, (seed, exact, result)


def test_rounding_of_many_rows_is_not_taken_for_rank():
    random = np.random.default_rng(0)
    levels = [random.integers(0, size, 400_000) for size in (12, 9)]
    A = np.hstack([np.ones((400_000, 1)), *(np.eye(21)[each][:, : each.max() + 1] for each in levels)])  # noqa: N806
    result = sketch.lstsq(A, random.standard_normal(400_000))
    assert result.rank == A.shape[1] - 2 and result.certified
    assert np.abs(result.x).max() < 1


@pytest.mark.parametrize("solver", [_solvers.by_gram, _solvers.by_preconditioned_gram, _solvers.by_conjugate_gradients, _solvers.by_qr])
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6, 1e12])
def test_certificate_is_within_a_factor_of_2_of_the_exact_estimate(solver, condition):
    if solver is _solvers.by_gram and condition > 1e7:
        pytest.skip("the Gram solver refuses such a matrix")
    compared = 0
    for seed in range(25):
        random = np.random.default_rng(seed)
        A = with_condition(random, 400, 10, condition)  # noqa: N806
        b = A @ random.standard_normal(10) + random.standard_normal(400) * 10.0 ** random.uniform(-8, 0)
        problem = Problem("test", A, b[:, None], seed=seed)
        solution = solver(problem, 2 * EPS)
        x = solution.x + np.linalg.norm(solution.x) * 10.0 ** random.uniform(-12, -1) * random.standard_normal((10, 1))
        gradient, squares = problem.residual(x)
        got = solution.certificate.backward_errors(x, gradient, squares)[0]
        exact = exact_backward_error(A, b, x[:, 0])
        assert exact / 2 <= got <= 2 * exact, (seed, got, exact)
        compared += exact > 10 * EPS
    assert compared >= 20


@pytest.mark.parametrize("condition", [1.0, 1e6, 1e9, 1e12, 1e14])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1.0])
def test_auto_takes_a_cheap_solver_for_tall_matrices(condition, noise):
    random = np.random.default_rng(5)
    A = with_condition(random, 4000, 30, condition)  # noqa: N806
    b = A @ random.standard_normal(30) + noise * random.standard_normal(4000) / 60
    result = sketch.lstsq(A, b)
    assert result.certified and result.rank == 30
    assert result.method == ("gram" if condition < 1e7 else "preconditioned_gram")
    assert 0.5 * condition < result.condition < 2 * condition
    assert_as_good_as_qr(A, b, result, condition)


def test_coherent_graded_and_deficient_tall_matrices_are_certified():
    random = np.random.default_rng(6)
    n, d = 4000, 30
    plain = random.standard_normal((n, d))
    spiked = plain.copy()
    spiked[:d] *= 1e6
    graded = plain * np.geomspace(1, 1e-12, n)[:, None]
    hard = with_condition(random, n, d, 1e12) * np.geomspace(1, 1e-12, n)[:, None]
    for A in (spiked, graded, hard, plain * np.geomspace(1e-100, 1e100, d), plain * 1e-200, plain * 1e160):  # noqa: N806
        b = (A / np.abs(A).max()).sum(axis=1) + random.standard_normal(n)
        result = sketch.lstsq(A, b)
        assert result.certified
        assert result.backward_error <= 2 * EPS
    twice = np.hstack([plain, plain[:, :3], np.zeros((n, 2))])
    result = sketch.lstsq(twice, plain.sum(axis=1))
    assert result.certified and result.rank == d and result.condition == np.inf
    np.testing.assert_allclose(result.x, [0.5] * 3 + [1] * (d - 3) + [0.5] * 3 + [0, 0], atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 1.1, 1.6])
def test_matrices_near_the_rank_tolerance_have_the_rank_of_qr(share, seed):
    random = np.random.default_rng(seed)
    A = with_condition(random, 4000, 30, 1 / (share * _solvers.rank_tolerance(4000)))  # noqa: N806
    b = random.standard_normal(4000)
    assert quietly(A, b, seed=seed).rank == quietly(A, b, method="qr").rank


@pytest.mark.parametrize(("condition", "taken"), [(1e12, True), (1e14, False)])
def test_a_sketch_of_a_million_rows_is_taken_up_to_where_rank_is_doubtful(condition, taken):
    random = np.random.default_rng(0)
    sketched = np.hstack([with_condition(random, 128, 20, condition), random.standard_normal((128, 1))])
    problem = Problem("test", np.broadcast_to(0.0, (1_000_000, 20)), np.broadcast_to(0.0, (1_000_000, 1)))  # of which only the shapes count
    assert (_solvers.preconditioner_of(problem, sketched) is not None) == taken


def test_deficient_matrices_get_the_solution_of_least_norm():
    for seed in range(300):
        A, b, rank = deficient_problem(seed)  # noqa: N806
        result = sketch.lstsq(A, b)
        want = np.linalg.lstsq(A, b, rcond=1e-12)[0]
        assert result.rank == rank
        assert result.certified
        np.testing.assert_allclose(result.x, want, rtol=1e-9, atol=1e-10 * max(1.0, np.linalg.norm(want)), err_msg=str(seed))


def test_fewer_rows_than_columns_gives_the_solution_of_least_norm():
    for seed in range(200):
        random = np.random.default_rng(seed)
        n = int(random.integers(1, 10))
        A = random.standard_normal((n, n + int(random.integers(1, 10))))  # noqa: N806
        b = random.standard_normal((n, 2))
        result = sketch.lstsq(A, b)
        np.testing.assert_allclose(result.x, np.linalg.lstsq(A, b, rcond=None)[0], rtol=1e-8, atol=1e-10)
        assert result.rank == n and result.certified
        assert np.isnan(result.standard_errors).all()


@pytest.mark.parametrize("method", sketch.METHODS)
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_weights_and_several_right_hand_sides_equal_the_stacked_problem(method, ridge, weighted):
    random = np.random.default_rng(8)
    A, b = random.standard_normal((3000, 30)), random.standard_normal((3000, 3))  # noqa: N806
    weights = random.random(3000) * (random.random(3000) > 0.1) if weighted else None
    scale = np.ones(3000) if weights is None else np.sqrt(weights)
    stacked_a = np.vstack([A * scale[:, None], np.sqrt(ridge) * np.eye(30)])
    stacked_b = np.vstack([b * scale[:, None], np.zeros((30, 3))])
    want = np.linalg.lstsq(stacked_a, stacked_b, rcond=None)[0]
    result = sketch.lstsq(A, b, ridge=ridge, weights=weights, method=method)
    assert result.certified and result.x.shape == (30, 3)
    np.testing.assert_allclose(result.x, want, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(result.residual_norm, np.linalg.norm(scale[:, None] * (b - A @ want), axis=0), rtol=1e-12)
    for k in range(3):
        exact = exact_backward_error(stacked_a, stacked_b[:, k], result.x[:, k])
        assert exact <= 4 * EPS


def test_standard_errors_are_those_of_ordinary_least_squares():
    random = np.random.default_rng(9)
    A, b = random.standard_normal((3000, 30)) * np.arange(1, 31), random.standard_normal(3000)  # noqa: N806
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    variance = np.sum((b - A @ x) ** 2) / (3000 - 30)
    want = np.sqrt(variance * np.diag(np.linalg.inv(A.T @ A)))
    for method in sketch.METHODS[:3]:
        np.testing.assert_allclose(sketch.lstsq(A, b, method=method).standard_errors, want, rtol=1e-9)


@pytest.mark.parametrize(("of_a", "of_b"), [(1e-310, 1.0), (1e300, 1e-20)])
def test_an_answer_out_of_range_is_not_certified(of_a, of_b):
    rng = np.random.default_rng(9)
    A, b = rng.standard_normal((500, 8)) * of_a, rng.standard_normal(500) * of_b  # noqa: N806
    with pytest.warns(RuntimeWarning, match="x is out of the range of float64"):
        result = sketch.lstsq(A, b)
    assert not result.certified and result.backward_error == np.inf


@pytest.mark.parametrize("share", [1e-290, 1e-160, 1e-20, 1e20, 1e160])
def test_a_column_far_from_the_others_in_scale_spoils_nothing(share):
    random = np.random.default_rng(0)
    A, b = random.standard_normal((500, 40)), random.standard_normal(500)  # noqa: N806
    want = sketch.lstsq(A, b)
    column = np.append(share, np.ones(39))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [sketch.lstsq(A * column, b)]
        if share < 1e150:  # what a state takes
            state = sketch.SketchedLeastSquares(40).partial_fit(A * column, b)
            results.append(state.refine([(A * column, b)]))
    for each in results:
        assert each.certified and 0 < each.backward_error
        np.testing.assert_allclose(each.residual_norm, want.residual_norm, rtol=1e-12)
        np.testing.assert_allclose(each.standard_errors * column, want.standard_errors, rtol=1e-9)
        np.testing.assert_allclose(each.x * column, want.x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", sketch.METHODS)
def test_rows_of_weight_zero_are_no_observations(method):
    random = np.random.default_rng(10)
    A, b, weights = random.standard_normal((2000, 5)), random.standard_normal(2000), np.zeros(2000)  # noqa: N806
    weights[:50] = random.random(50) + 0.5
    want = sketch.lstsq(A[:50], b[:50], weights=weights[:50])
    result = sketch.lstsq(A, b, weights=weights, method=method)
    of_sketch = method == "conjugate_gradients"  # the errors too, with its distortion
    np.testing.assert_allclose(result.standard_errors, want.standard_errors, rtol=0.5 if of_sketch else 1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, ">f8", "<f8", ">f4", ">i4"])
@pytest.mark.parametrize("layout", ["C", "F", "every other row", "reversed columns", "transposed view"])
def test_any_memory_order_and_dtype(dtype, layout):
    random = np.random.default_rng(10)
    values = (random.standard_normal((3000, 30)) * 100).astype(dtype)
    b = random.standard_normal(3000).astype(np.float32)
    A = {  # noqa: N806
        "C": values,
        "F": np.asfortranarray(values),
        "every other row": np.repeat(values, 2, axis=0)[::2],
        "reversed columns": np.ascontiguousarray(values[:, ::-1])[:, ::-1],
        "transposed view": np.ascontiguousarray(values.T).T,
    }[layout]
    result = sketch.lstsq(A, b)
    assert result.x.dtype == np.float64
    assert exact_backward_error(values.astype(np.float64), b.astype(np.float64), result.x) <= 4 * EPS
    if dtype is np.float32:  # copies are exact, so the layout changes no bit
        assert (result.x == sketch.lstsq(values, b).x).all()


def test_results_are_bitwise_equal_for_any_number_of_threads():
    random = np.random.default_rng(11)
    A = with_condition(random, 40_000, 12, 1e5)  # noqa: N806
    b = random.standard_normal(40_000)
    code = (
        "import numpy as np, sys; from slipstick import sketch\n"
        "data = np.load(sys.argv[1]); A, b = data['A'], data['b']\n"
        "for method in ('gram', 'preconditioned_gram', 'conjugate_gradients'):\n"
        "    bits = {sketch.lstsq(A, b, method=method, threads=t, seed=3).x.tobytes() for t in (1, 2, 3, 8)}\n"
        "    assert len(bits) == 1, method\n"
    )
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"slipstick-threads-{os.getpid()}.npz")
    try:
        np.savez(path, A=A, b=b)
        # A fresh process, so that LAPACK's own threads are held to one.
        result = subprocess.run(
            [sys.executable, "-c", code, path], env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True
        )
    finally:
        os.unlink(path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("shape", [(100, 4), (3000, 30)])
@pytest.mark.parametrize("method", sketch.METHODS)
@pytest.mark.parametrize(("bad", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_nan_and_infinity_are_refused_by_name(shape, method, bad, text):
    random = np.random.default_rng(12)
    A, b = random.standard_normal(shape), random.standard_normal(shape[0])  # noqa: N806
    spoiled = A.copy()
    spoiled[57, 2] = bad
    with pytest.raises(ValueError) as caught:
        sketch.lstsq(spoiled, b, method=method)
    assert str(caught.value) == f"lstsq: A is {text} at row 57, column 2; expected finite numbers"
    b[99] = bad
    with pytest.raises(ValueError) as caught:
        sketch.lstsq(A, b, method=method)
    assert str(caught.value) == f"lstsq: b is {text} at row 99, column 0; expected finite numbers"


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1), (5, 1), (1, 4)])
def test_empty_and_tiny_shapes(shape):
    A, b = np.ones(shape), np.ones(shape[0])  # noqa: N806
    result = sketch.lstsq(A, b)
    want = np.linalg.lstsq(A, b, rcond=None)[0] if A.size else np.zeros(shape[1])
    np.testing.assert_allclose(result.x, want, atol=1e-15)
    np.testing.assert_allclose(result.residual_norm, np.linalg.norm(b - A @ want), atol=1e-15)
    assert result.certified
    assert sketch.lstsq(A, np.ones((shape[0], 0))).x.shape == (shape[1], 0)


def test_zero_matrix_and_zero_right_hand_side():
    random = np.random.default_rng(13)
    for n, d in ((50, 3), (3000, 30)):
        zero = sketch.lstsq(np.zeros((n, d)), np.ones(n))
        assert zero.rank == 0 and (zero.x == 0).all() and zero.certified
        nothing = sketch.lstsq(random.standard_normal((n, d)), np.zeros(n))
        assert nothing.rank == d and (nothing.x == 0).all() and nothing.certified and nothing.residual_norm == 0


def test_what_cannot_be_certified_is_said():
    A, b = full_rank_problem(3)  # noqa: N806
    with pytest.warns(RuntimeWarning, match="lstsq: backward error is .* above the tolerance 0.0e"):
        result = sketch.lstsq(A, b, rtol=0)
    assert not result.certified


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"A": np.ones(3)}, ValueError, "lstsq: A has 1 dimensions; expected 2"),
        ({"A": np.ones((3, 2), complex)}, TypeError, "lstsq: A has dtype complex128; expected float32, float64 or integers"),
        ({"b": np.ones(4)}, ValueError, "lstsq: b has 4 rows; expected 3, the rows of A"),
        ({"b": "text"}, TypeError, "lstsq: b has dtype <U4; expected float32, float64 or integers"),
        ({"ridge": -1}, ValueError, "lstsq: ridge is -1.0; expected a finite number of 0 or more"),
        ({"ridge": "x"}, TypeError, "lstsq: ridge is 'x'; expected a number"),
        ({"weights": [1, 2]}, ValueError, "lstsq: weights has 2 rows; expected 3, the rows of A"),
        ({"weights": [1, -2, 1]}, ValueError, "lstsq: weights is -2.0 at row 1; expected finite numbers of 0 or more"),
        ({"method": "svd"}, ValueError, f"lstsq: method is 'svd'; expected one of {', '.join(map(repr, sketch.METHODS))}"),
        ({"rtol": np.nan}, ValueError, "lstsq: rtol is nan; expected a finite number of 0 or more"),
        ({"seed": -1}, ValueError, "lstsq: seed is -1; expected 0 to 2^64 - 1"),
        ({"seed": 1.5}, TypeError, "lstsq: seed is 1.5; expected a whole number"),
        ({"threads": 0}, ValueError, "lstsq: threads is 0; expected a whole number from 1 to 1024, or None"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, error, message):
    given = {"A": np.ones((3, 2)), "b": np.ones(3), **options}
    with pytest.raises(error) as caught:
        sketch.lstsq(given.pop("A"), given.pop("b"), **given)
    assert str(caught.value) == message


def test_result_is_a_frozen_record():
    result = sketch.lstsq(np.eye(3), np.ones(3))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.rank = 4


def test_sparse_matrices_are_refused_by_name():
    sparse = pytest.importorskip("scipy.sparse")
    wanted = "expected a dense array"
    with pytest.raises(TypeError, match=f"lstsq: A is a SciPy sparse matrix; {wanted}"):
        sketch.lstsq(sparse.eye(5, format="csr"), np.ones(5))
    with pytest.raises(TypeError, match=f"partial_fit: X is a SciPy sparse matrix; {wanted}"):
        sketch.SketchedLeastSquares(5).partial_fit(sparse.eye_array(5), np.ones(5))
