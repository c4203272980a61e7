"""`lstsq`: the cheapest solver that the certificate vouches for."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from . import _arguments, _dense, _solvers
from ._certificate import Certificate
from ._problem import Problem

Array = np.ndarray[Any, Any]

METHODS = ("auto", "gram", "preconditioned_gram", "conjugate_gradients", "qr")
DEFAULT_TOLERANCE = 2 * _solvers.EPSILON

SMALL_WORK = 1 << 21  # n d^2 below which QR costs no more than the calls around it
LEAST_ROWS_A_COLUMN = 6  # with fewer rows QR is as cheap as what would replace it
PILOT_ROWS_A_COLUMN = 2
MOST_PILOT_CONDITION = 1e8  # the pilot's is some times larger than that of A; above, forming the Gram matrix would be wasted
CONJUGATE_GRADIENT_COLUMNS = 3000  # from here on some 50 reads of A cost less than 2 n d^2 flops


@dataclasses.dataclass(frozen=True)
class LstsqResult:
    """What `lstsq` found.

    Attributes:
        x: float64 (d,) or (d, k), shaped as b.
        residual_norm: |sqrt(W) (b - A x)|, without the ridge term; float or (k,).
        backward_error: the Karlson-Walden estimate relative to |A|_F, the largest over the right-hand sides: x solves exactly a problem whose A
            and b differ by about this share in norm.
        condition: ratio of the extreme singular values of A (with weights and ridge), from the factor that was used; inf if deficient.
            A lower bound where it is above 1e15.
        method: the solver that gave x.
        passes: reads of A in all, also those of solvers that were given up.
        standard_errors: of each coefficient, shaped as x, for independent errors of equal variance (inverse to the weights); NaN where
            they are not defined. Rows of weight 0 do not count as observations. By
            conjugate_gradients they are those of the sketch, off by its distortion, a quarter or so.
        rank: numerical rank of A.
        certified: whether backward_error is at most the tolerance asked for.
    """

    x: Array
    residual_norm: Any
    backward_error: float
    condition: float
    method: str
    passes: int
    standard_errors: Array
    rank: int
    certified: bool


def lstsq(
    A: Any,  # noqa: N803
    b: Any,
    *,
    ridge: float = 0.0,
    weights: Any = None,
    method: str = "auto",
    rtol: float | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> LstsqResult:
    """Least squares: the x that makes sum_i w_i (b_i - a_i x)^2 + ridge |x|^2 least, with its backward error.

    Args:
        A: (n, d), float32 or float64 in any memory order; integers are converted. All sums are in float64.
        b: (n,) or (n, k). A, b and weights may be torch tensors on the CPU or, with slipstick-cu13, on one CUDA device: x is one then, of their dtype (float64 for integers), and differentiable, also twice, in all three
            where A has full rank.
        ridge: 0 or more; not scaled by n.
        weights: None or (n,), 0 or more.
        method: "auto", or one of METHODS to force it. A forced solver answers with what it has, `certified` or not, unless it has nothing:
            then QR answers, as it does where n < d without a ridge, which no other solver takes; the result's method says so.
        rtol: backward error asked for, relative to the norms of A and b; default 2 eps = 4.4e-16.
        seed: of the sketch, 0 to 2^64 - 1; the same seed gives the same bits.
        threads: for passes over A; does not change a bit of the result. Small dense work is done by SciPy's LAPACK, on one
            thread up to 512 columns and on its own threads above.
    Returns:
        LstsqResult. With n < d, or columns that depend on each other, x is the solution of least Euclidean norm; columns count as dependent
        when, scaled to equal norms, A has a singular value below max(16, sqrt(n) / 4) eps times the largest (n < d: A itself, unscaled).
    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: shapes that do not match, NaN or infinity in A, b or weights (the message names the place), or a number out of range.
        UnsupportedError: A is on CUDA and slipstick-cu13 is not installed.
    Warns:
        RuntimeWarning: even QR could not be certified: backward_error says how far off x may be. x is out of the range of float64:
            backward_error is inf.
    Notes:
        On CUDA, passes over A run on the device, small dense work on the host, which waits for them. When `certified`, the backward error is at most max(2 x that of Householder QR, 4 eps). Solvers, in order of cost: Gram matrix with
        refinement, Gram matrix of A R^-1 with R from a sketch, conjugate gradients with that R, Householder QR. The certificate is the
        estimate of Karlson and Walden 1997 with the singular values of the triangular factor (Epperly, Meier and Nakatsukasa 2024).
    """
    if any(type(part).__module__.partition(".")[0] == "torch" for part in (A, b, weights)):
        from . import _torch

        options = {"ridge": ridge, "method": method, "rtol": rtol, "seed": seed, "threads": threads}
        return _torch.lstsq(A, b, weights, options)
    return of_arrays(A, b, ridge, weights, method, rtol, seed, threads)


def of_arrays(
    A: Any,  # noqa: N803
    b: Any,
    ridge: float = 0.0,
    weights: Any = None,
    method: str = "auto",
    rtol: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    *,
    lost: int = 0,
) -> LstsqResult:
    """lstsq of arrays that have lost degrees of freedom before, as to their means."""
    where = "lstsq"
    matrix = _arguments.matrix(where, "A", A)
    right = _arguments.matrix(where, "b", b, dimensions=(1, 2))
    _arguments.same_rows(where, "b", right, matrix.shape[0])
    problem = Problem(
        where,
        matrix,
        right if right.ndim == 2 else right[:, None],
        _arguments.row_scale(where, weights, matrix.shape[0]),
        _arguments.non_negative(where, "ridge", ridge),
        _arguments.seed_of(where, seed),
        _arguments.thread_count(where, threads),
        lost=lost,
    )
    return of_problem(problem, method, rtol, right.ndim == 1)


def of_problem(problem: Problem, method: str, rtol: float | None, flat: bool) -> LstsqResult:
    """lstsq of a checked problem. flat: b has one dimension."""
    tolerance = DEFAULT_TOLERANCE if rtol is None else _arguments.non_negative(problem.where, "rtol", rtol)
    method = _arguments.one_of(problem.where, "method", method, METHODS)
    try:
        return _result(problem, _solve(problem, method, tolerance), tolerance, flat)
    except _solvers.OutOfScale as far:
        of_a, of_b = far.args
    scaled = problem.brought_near_one(of_a, of_b)
    return scaled_back(_result(scaled, _solve(scaled, method, tolerance), tolerance, flat), of_a, of_b, level=5)


def scaled_back(result: LstsqResult, of_a: int, of_b: int, level: int = 4) -> LstsqResult:
    """The result for A 2^of_a and b 2^of_b. Where x is no float64 then, nothing vouches for what is left of it. level: of the warning's caller."""
    with np.errstate(over="ignore", under="ignore"):
        x = np.ldexp(result.x, of_b - of_a)
        residual_norm = np.ldexp(result.residual_norm, of_b)
        standard_errors = np.ldexp(result.standard_errors, of_b - of_a)
    greatest = float(np.abs(x).max(initial=0.0))
    representable = bool(np.finfo(np.float64).tiny <= greatest < np.inf or not np.any(result.x))
    if not representable:
        warnings.warn("lstsq: x is out of the range of float64", RuntimeWarning, stacklevel=level)
    return dataclasses.replace(
        result,
        x=x,
        residual_norm=residual_norm,
        standard_errors=standard_errors,
        backward_error=result.backward_error if representable else float("inf"),
        certified=result.certified and representable,
    )


def with_tensors(result: LstsqResult, x: Any, standard_errors: Any) -> LstsqResult:
    return dataclasses.replace(result, x=x, standard_errors=standard_errors)


def _solve(problem: Problem, method: str, tolerance: float) -> _solvers.Solution:
    n, d = problem.rows, problem.columns
    if n < d and not problem.ridge:
        return _least_norm(problem)
    forced = {
        "gram": _solvers.by_gram,
        "preconditioned_gram": _solvers.by_preconditioned_gram,
        "conjugate_gradients": _solvers.by_conjugate_gradients,
    }
    if n == 0 or d == 0 or problem.rights == 0 or method == "qr":
        return _solvers.by_qr(problem, tolerance)
    if method != "auto":
        return forced[method](problem, tolerance) or _solvers.by_qr(problem, tolerance)
    if n * d * d >= SMALL_WORK and n >= LEAST_ROWS_A_COLUMN * d:
        for solver in _candidates(problem):
            solution = solver(problem, tolerance)
            if solution is not None and solution.backward_error <= tolerance:
                return solution
    return _solvers.by_qr(problem, tolerance)


def _candidates(problem: Problem) -> list[Any]:
    preconditioned: list[Any] = [_solvers.by_preconditioned_gram]
    if problem.columns >= CONJUGATE_GRADIENT_COLUMNS:
        preconditioned.insert(0, _solvers.by_conjugate_gradients)
    if _pilot_condition(problem) > MOST_PILOT_CONDITION:
        return preconditioned
    return [_solvers.by_gram, *preconditioned]


def _pilot_condition(problem: Problem) -> float:
    """The condition of a few rows of A, evenly spaced: a guess that saves work where it is right and costs only time where it is wrong."""
    d = problem.columns
    rows = min(PILOT_ROWS_A_COLUMN * d + 8, problem.rows)
    picked = np.arange(rows) * problem.rows // rows
    pilot = problem.rows_at(picked)
    if not np.isfinite(pilot).all():
        return 1.0  # the Gram pass will say where
    if problem.ridge:
        pilot = np.concatenate((pilot * np.sqrt(problem.rows / rows), np.sqrt(problem.ridge) * np.eye(d)))
    largest = np.abs(pilot).max(axis=0)
    pilot = np.ldexp(pilot, -_dense.column_exponents(largest))[:, largest > 0]
    r = _dense.triangular_factor([pilot], pilot.shape[1])
    return _dense.condition_of(_dense.singular_values(np.ldexp(r, -_dense.column_exponents(np.linalg.norm(r, axis=0)))))


def _least_norm(problem: Problem) -> _solvers.Solution:
    """n < d: the solution of least norm by the singular value decomposition of A."""
    problem.refuse_non_finite()
    blocks = list(problem.blocks(max(problem.rows, 1)))
    block = blocks[0] if blocks else np.zeros((0, problem.columns + problem.rights))
    a, b = block[:, : problem.columns], block[:, problem.columns :]
    tops = np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)
    if any(top > 0 and not 1 / _solvers.OUT_OF_SCALE < top < _solvers.OUT_OF_SCALE for top in tops):
        raise _solvers.OutOfScale(*(int(_dense.column_exponents(top)) for top in tops))
    certificate = Certificate(a, np.linalg.norm(b, axis=0))
    u, values, rows_of_v = _dense.svd(a)
    rank = int(np.sum(values > _solvers.rank_tolerance(problem.rows) * values[0])) if values.size and values[0] > 0 else 0
    x = np.zeros((problem.columns, problem.rights))
    rest = b
    for _ in range(2):  # the second step takes back the rounding of the first
        x = x + rows_of_v[:rank].T @ ((u[:, :rank].T @ rest) / values[:rank, None])
        rest = b - a @ x
    squares = np.sum(rest * rest, axis=0)
    error = float(np.max(certificate.backward_errors(x, a.T @ rest, squares), initial=0.0))
    return _solvers.Solution(x, squares, error, certificate, "qr", rank)


def _result(problem: Problem, solution: _solvers.Solution, tolerance: float, flat: bool) -> LstsqResult:
    d, certificate = problem.columns, solution.certificate
    plain = solution.squared_residuals
    if problem.ridge:  # the squares may overflow where columns are tiny, and 0 of infinity is no number
        plain = np.maximum(plain - problem.ridge * np.sum(solution.x * solution.x, axis=0), 0.0)
    full = solution.rank == d and problem.rows > 0
    errors = certificate.standard_errors(plain, problem.observations, problem.ridge) if full and d else np.full(solution.x.shape, np.nan)
    norms = np.sqrt(plain)
    certified = solution.backward_error <= tolerance
    if not certified:
        warnings.warn(
            f"lstsq: backward error is {solution.backward_error:.1e} by {solution.method}, above the tolerance {tolerance:.1e}; x may be inaccurate",
            RuntimeWarning,
            stacklevel=5,
        )
    return LstsqResult(
        x=solution.x[:, 0] if flat else solution.x,
        residual_norm=float(norms[0]) if flat else norms,
        backward_error=solution.backward_error,
        condition=certificate.condition if solution.rank == min(d, problem.rows) or problem.ridge else float("inf"),
        method=solution.method,
        passes=problem.passes,
        standard_errors=errors[:, 0] if flat else errors,
        rank=solution.rank,
        certified=certified,
    )
