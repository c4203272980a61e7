"""The solvers. Each returns the best solution it saw, for the caller to compare its backward error with the tolerance, or None where its
factorisation broke down; `by_qr` always answers.

    by_gram                 Cholesky of A^T A, then refinement: one compute-bound read of A and one cheap read a step; good to condition 1e7
    by_preconditioned_gram  the same for A R^-1, R from a sketch; two compute-bound reads; good to condition 1e13 on most data of 1e6 rows
    by_conjugate_gradients  sketch and precondition with restarts: many cheap reads, the least work where d is large
    by_qr                   Householder QR by blocks of rows, and the rule for deficient rank
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _dense
from ._certificate import Certificate
from ._problem import Problem
from ._sources import StreamedProblem

Array = np.ndarray[Any, Any]
AnyProblem = Problem | StreamedProblem

EPSILON = float(np.finfo(np.float64).eps)
MOST_GRAM_CONDITION = 1.5e7  # above, rounding of the Gram matrix could look like a singular value
MOST_PRECONDITIONED_CONDITION = 1e5  # of A R^-1; it is below 10 unless rounding or a bad sketch spoiled R
OUT_OF_SCALE = 2.0**250  # magnitudes beyond it or its reciprocal are brought near 1 first, so that no product of norms overflows
MOST_REFINEMENTS = 8
WORTH_A_PASS = 0.5  # a refinement that does not shrink the backward error by this factor is the last one
LEAST_RANK_TOLERANCE = 16 * EPSILON
# Rounding makes singular values of 0 of about 0.05 eps sqrt(rows): 29 eps for 3e5 rows of indicators.
RANK_TOLERANCE_A_ROOT_ROW = EPSILON / 4
SKETCH_MARGIN = 2  # times rank_tolerance: a smaller singular value of the sketch, which is a rough one, leaves the rank to by_qr
SKETCH_ROWS_A_COLUMN = 4
CERTIFYING_ROWS_A_COLUMN = 16  # where the sketch itself certifies: a distortion of sqrt(1 / 16) keeps the estimate within a factor of 5/3
SKETCH_NONZEROS = 4
QR_BLOCK_ROWS_A_COLUMN = 8


def rank_tolerance(rows: int) -> float:
    """Singular values of a matrix of so many rows below this share of the largest are rounding."""
    return max(LEAST_RANK_TOLERANCE, RANK_TOLERANCE_A_ROOT_ROW * float(np.sqrt(rows)))


class OutOfScale(Exception):
    """No error: raised by by_qr with the binary exponents of A and b, for lstsq to scale both and start again."""


@dataclasses.dataclass
class Solution:
    x: Array  # [d, k]
    squared_residuals: Array  # [k], ridge rows included
    backward_error: float
    certificate: Certificate
    method: str
    rank: int


def _refined(
    problem: AnyProblem, certificate: Certificate, x: Array, solve: Callable[[Array], Array], tolerance: float, method: str
) -> Solution:
    """x improved by x += solve(A^T (b - A x)) until the certificate passes or stops falling; the best x seen."""
    best: Solution | None = None
    for _ in range(MOST_REFINEMENTS):
        gradient, squares = problem.residual(x)
        error = float(np.max(certificate.backward_errors(x, gradient, squares), initial=0.0))
        worth = best is None or error < WORTH_A_PASS * best.backward_error
        if best is None or error < best.backward_error:
            best = Solution(x, squares, error, certificate, method, problem.columns)
        if best.backward_error <= tolerance or not worth or not np.isfinite(error):
            break
        x = x + solve(gradient)
    assert best is not None
    return best


def gram_factor(gram: Array, d: int) -> tuple[Array, Array] | None:
    """scaled_cholesky of the first d rows and columns of [A b]^T [A b], where that is as good as A: None if A is out of scale, has a zero column
    or a condition above MOST_GRAM_CONDITION with columns scaled."""
    diagonal = np.diagonal(gram)
    tiny, huge = 1e-280, 1e280  # beyond, squares have lost digits to underflow or overflow
    if not (((diagonal > tiny) & (diagonal < huge)) | (diagonal == 0)).all() or not np.isfinite(gram).all() or (diagonal[:d] == 0).any():
        return None
    factored = _dense.scaled_cholesky(gram[:d, :d])
    if factored is None or _dense.condition_of(_dense.singular_values(factored[0])) > MOST_GRAM_CONDITION:
        return None
    return factored


def solve_by_factor(r: Array, exponents: Array, right: Array) -> Array:
    """(R 2^exponents)^-1 (R 2^exponents)^-T right."""
    inner = _dense.triangular_solve(r, np.ldexp(right, -exponents[:, None]), transposed=True)
    return np.ldexp(_dense.triangular_solve(r, inner), -exponents[:, None])


def by_gram(problem: AnyProblem, tolerance: float, gram: Array | None = None) -> Solution | None:
    """Corrected semi-normal equations (Bjorck 1987) with R from Cholesky; `gram` where a pass has made it already.

    Raises:
        ValueError: A or b holds NaN or infinity.
    """
    d = problem.columns
    if gram is None:
        gram = problem.gram()
    if not np.isfinite(np.diagonal(gram)).all():
        problem.refuse_non_finite()
    factored = gram_factor(gram, d)
    if factored is None:
        return None
    r, exponents = factored

    def solve(right: Array) -> Array:
        return solve_by_factor(r, exponents, right)

    certificate = Certificate(np.ldexp(r, exponents), np.sqrt(np.diagonal(gram)[d:]))
    return _refined(problem, certificate, solve(gram[:d, d:]), solve, tolerance, "gram")


@dataclasses.dataclass
class Preconditioner:
    r: Array  # R with R 2^exponents close to an R factor of A
    exponents: Array
    inverse: Array  # (R 2^exponents)^-1
    start: Array  # [d, k]: the solution of the sketched problem


def sketch_of(problem: AnyProblem, rows_a_column: int = SKETCH_ROWS_A_COLUMN) -> Array:
    """A sparse sketch S [A b] of rows_a_column d rows."""
    rows = rows_a_column * problem.columns + problem.rights + 8
    return problem.sketch("sjlt", rows, min(SKETCH_NONZEROS, rows))


def preconditioner_of(problem: AnyProblem, sketched: Array) -> Preconditioner | None:
    """From S [A b]; None where A may be deficient.

    Raises:
        ValueError: A or b holds NaN or infinity.
    """
    d = problem.columns
    if not np.isfinite(sketched).all():
        problem.refuse_non_finite()
        return None
    sketched = sketched.copy()
    if problem.ridge:
        below = np.zeros((d, sketched.shape[1]))
        below[:, :d] = np.sqrt(problem.ridge) * np.eye(d)
        sketched = np.concatenate((sketched, below))
    largest = np.abs(sketched[:, :d]).max(axis=0)
    if not ((largest > 1e-140) & (largest < 1e140)).all():
        return None
    exponents = _dense.column_exponents(np.linalg.norm(sketched[:, :d], axis=0))
    sketched[:, :d] = np.ldexp(sketched[:, :d], -exponents)
    factor = _dense.triangular_factor([sketched], sketched.shape[1])
    r = np.asfortranarray(factor[:d, :d])
    values = _dense.singular_values(r)
    if not values[-1] > SKETCH_MARGIN * rank_tolerance(problem.rows) * values[0]:
        return None
    inverse = _dense.triangular_inverse(r)
    if inverse is None:
        return None
    start = np.ldexp(_dense.triangular_solve(r, factor[:d, d:]), -exponents[:, None])
    return Preconditioner(r, exponents, np.ldexp(inverse, -exponents[:, None]), start)


def by_preconditioned_gram(problem: AnyProblem, tolerance: float, sketched: Array | None = None) -> Solution | None:
    """by_gram for A R^-1, R from `sketched` = S [A b] or a sketch of its own (compare CholeskyQR with a randomised preconditioner: Fan, Guo and Lin 2021, arXiv:2111.11148).

    Raises:
        ValueError: A or b holds NaN or infinity.
    """
    d = problem.columns
    preconditioner = preconditioner_of(problem, sketch_of(problem) if sketched is None else sketched)
    if preconditioner is None:
        return None
    gram = problem.gram(preconditioner.inverse)
    if not np.isfinite(gram).all():
        problem.refuse_non_finite()
        return None
    inner_r = _dense.cholesky(gram[:d, :d])
    if inner_r is None or _dense.condition_of(_dense.singular_values(inner_r)) > MOST_PRECONDITIONED_CONDITION:
        return None
    inverse = preconditioner.inverse

    def solve_inner(right: Array) -> Array:
        return inverse @ _dense.triangular_solve(inner_r, _dense.triangular_solve(inner_r, right, transposed=True))

    certificate = Certificate(inner_r @ np.ldexp(preconditioner.r, preconditioner.exponents), np.sqrt(np.diagonal(gram)[d:]))
    x = solve_inner(gram[:d, d:])
    return _refined(problem, certificate, x, lambda right: solve_inner(inverse.T @ right), tolerance, "preconditioned_gram")


def by_conjugate_gradients(problem: Problem, tolerance: float) -> Solution | None:
    """Sketch-and-precondition with iterative refinement (SPIR of Epperly, Meier and Nakatsukasa 2024, arXiv:2406.03468), conjugate gradients inside.

    Raises:
        ValueError: A or b holds NaN or infinity.
    """
    preconditioner = preconditioner_of(problem, sketch_of(problem, CERTIFYING_ROWS_A_COLUMN))
    if preconditioner is None:
        return None
    inverse = preconditioner.inverse
    homogeneous = problem.homogeneous()
    most_steps, enough = 30, 1e-8  # a restart squares what is left

    def solve(gradient: Array) -> Array:
        """R^-1 y with (A R^-1)^T (A R^-1) y = R^-T gradient, each column by its own conjugate gradients."""
        rest = inverse.T @ gradient
        y, direction = np.zeros_like(rest), rest.copy()
        squared = np.sum(rest * rest, axis=0)
        goal = squared * enough**2
        for _ in range(most_steps):
            if (squared <= goal).all():
                break
            image = -(inverse.T @ homogeneous.residual(inverse @ direction)[0])
            curvature = np.sum(direction * image, axis=0)
            if not (np.isfinite(curvature).all() and (curvature >= 0).all()):
                break
            step = np.divide(squared, curvature, out=np.zeros_like(squared), where=curvature > 0)
            y += step * direction
            rest -= step * image
            last, squared = squared, np.sum(rest * rest, axis=0)
            direction = rest + np.divide(squared, last, out=np.zeros_like(squared), where=last > 0) * direction
        return np.asarray(inverse @ y)

    squared_b = problem.residual(np.zeros_like(preconditioner.start))[1]
    certificate = Certificate(np.ldexp(preconditioner.r, preconditioner.exponents), np.sqrt(squared_b))
    solution = _refined(problem, certificate, preconditioner.start, solve, tolerance, "conjugate_gradients")
    problem.passes += homogeneous.passes
    return solution


def by_qr(problem: AnyProblem, tolerance: float) -> Solution:
    """Householder QR of [A b]; where the rank is deficient, the solution of least norm.

    The numerical rank is the number of singular values above rank_tolerance(rows) times the largest, of A with its columns scaled to norms in [1, 2).

    Raises:
        ValueError: A or b holds NaN or infinity.
    """
    problem.refuse_non_finite()
    d, k = problem.columns, problem.rights
    block_rows = max(QR_BLOCK_ROWS_A_COLUMN * (d + k), 1024)
    largest = np.zeros(d + k)
    for block in problem.blocks(block_rows):
        np.maximum(largest, np.abs(block).max(axis=0, initial=0.0), out=largest)
    for top in (largest[:d].max(initial=0.0), largest[d:].max(initial=0.0)):
        if top > 0 and not 1 / OUT_OF_SCALE < top < OUT_OF_SCALE:
            raise OutOfScale(*(int(_dense.column_exponents(part.max(initial=0.0))) for part in (largest[:d], largest[d:])))
    exponents = _dense.column_exponents(largest)  # so that no square overflows or underflows
    factor = _dense.triangular_factor((np.asfortranarray(np.ldexp(block, -exponents)) for block in problem.blocks(block_rows)), d + k)
    if factor.shape[0] < d + k:
        factor = np.concatenate((factor, np.zeros((d + k - factor.shape[0], d + k))))
    by_norm = _dense.column_exponents(np.linalg.norm(factor[:d, :d], axis=0))
    r = np.asfortranarray(np.ldexp(factor[:d, :d], -by_norm))
    exponents[:d] += by_norm
    u, values, rows_of_v = _dense.svd(r)
    rank = int(np.sum(values > rank_tolerance(problem.rows) * values[0])) if d and values[0] > 0 else 0
    backward = exponents[d:] - exponents[:d, None]  # from the scaled solution to x
    q_b = factor[:d, d:]
    if rank == d:
        x = np.ldexp(_dense.triangular_solve(r, q_b), backward)
        basis = np.zeros((d, 0))
    else:
        x = np.ldexp(rows_of_v[:rank].T @ ((u[:, :rank].T @ q_b) / values[:rank, None]), backward)
        # The null space of A is that of the scaled matrix, with its vectors scaled back.
        null = np.ldexp(rows_of_v[rank:].T, -exponents[:d, None] + exponents[:d].min(initial=0))
        basis, _ = np.linalg.qr(null / np.maximum(np.linalg.norm(null, axis=0), 1e-300))
        x = x - basis @ (basis.T @ x)

    def solve(gradient: Array) -> Array:
        """(A^T A)^+ gradient by the factor: the blocks of a long matrix add their rounding, which one step takes back."""
        right = np.ldexp(gradient, -exponents[:d, None])
        if rank == d:
            inner = _dense.triangular_solve(r, _dense.triangular_solve(r, right, transposed=True))
        else:
            inner = rows_of_v[:rank].T @ ((rows_of_v[:rank] @ right) / values[:rank, None] ** 2)
        step = np.ldexp(inner, -exponents[:d, None])
        return np.asarray(step - basis @ (basis.T @ step))

    certificate = Certificate(np.ldexp(r, exponents[:d]), np.ldexp(np.linalg.norm(factor[:, d:], axis=0), exponents[d:]))
    solution = _refined(problem, certificate, x, solve, tolerance, "qr")
    solution.rank = rank
    return solution
