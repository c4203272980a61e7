"""`ridge_path`: the ridge solutions of many penalties from one factorisation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from . import _arguments, _dense, _solvers
from ._problem import Problem

Array = np.ndarray[Any, Any]

MOST_GRAM_CONDITION = 1e4  # singular values from a Gram matrix have a relative error of eps times its square


@dataclasses.dataclass(frozen=True)
class RidgePath:
    """Solutions for L penalties.

    Attributes:
        ridges: (L,), as given.
        x: (L, d) or (L, d, k).
        residual_norms: of sqrt(W) (b - A x), (L,) or (L, k).
        effective_degrees: (L,): trace of the matrix that maps b to A x.
        generalized_cross_validation: (L,) or (L, k): n |b - A x|^2 / (n - effective_degrees)^2 (Golub, Heath and Wahba 1979); least where the
            prediction of new rows is estimated best; infinity where no degree is left. n counts the rows of a weight above 0.
            It is a square: scale b if its norm is not between 1e-150 and 1e150.
        passes: reads of A.
    """

    ridges: Array
    x: Array
    residual_norms: Array
    effective_degrees: Array
    generalized_cross_validation: Array
    passes: int

    @property
    def best(self) -> int:
        """Index of the penalty with the least generalized_cross_validation, summed over right-hand sides.

        Raises:
            ValueError: ridges is empty.
        """
        scores = self.generalized_cross_validation
        if not len(scores):
            raise ValueError("best: ridges is empty; expected one penalty or more")
        return int(np.argmin(scores if scores.ndim == 1 else scores.sum(axis=1)))


def ridge_path(
    A: Any,  # noqa: N803
    b: Any,
    ridges: Any,
    *,
    weights: Any = None,
    seed: int = 0,
    threads: int | None = None,
) -> RidgePath:
    """argmin_x sum_i w_i (b_i - a_i x)^2 + ridge |x|^2 for each ridge: A is read once where the condition of its Gram matrix allows, else by Householder QR; whatever the number of penalties.

    Args:
        A, b, weights, seed, threads: as in `lstsq`.
        ridges: (L,), 0 or more. 0 on a matrix of deficient rank gives the solution of least norm. Directions of A with a singular
            value below max(16, sqrt(n) / 4) eps times the largest count as none, whatever the penalty; columns are not scaled first, as they are in `lstsq`, because
            the penalty is on x as it is.
    Returns:
        RidgePath. Relative error of x: about the larger of 1e-7 and eps times the condition of A with the ridge. For a certified solution,
        call `lstsq` with the penalty that was chosen.
    Raises:
        TypeError, ValueError: as `lstsq`.
    """
    where = "ridge_path"
    matrix = _arguments.matrix(where, "A", A)
    right = _arguments.matrix(where, "b", b, dimensions=(1, 2))
    _arguments.same_rows(where, "b", right, matrix.shape[0])
    penalties = _arguments.matrix(where, "ridges", ridges, dimensions=(1,)).astype(np.float64)
    for penalty in penalties:
        _arguments.non_negative(where, "ridges", penalty)
    problem = Problem(
        where,
        matrix,
        right if right.ndim == 2 else right[:, None],
        _arguments.row_scale(where, weights, matrix.shape[0]),
        seed=_arguments.seed_of(where, seed),
        threads=_arguments.thread_count(where, threads),
    )
    factor, q_b, b_norms = _factored(problem)
    return _path(problem, factor, q_b, b_norms, penalties, flat=right.ndim == 1)


def _factored(problem: Problem) -> tuple[Array, Array, Array]:
    """R with R^T R = A^T A, Q^T b for A = Q R, and the norms of b, all with weights.

    Raises:
        ValueError: A or b holds NaN or infinity.
    """
    d = problem.columns
    gram = problem.gram()
    if not np.isfinite(np.diagonal(gram)).all():
        problem.refuse_non_finite()
    factored = _solvers.gram_factor(gram, d) if d else None
    if factored is not None and _dense.condition_of(_dense.singular_values(factored[0])) <= MOST_GRAM_CONDITION:
        r, exponents = factored
        q_b = _dense.triangular_solve(r, np.ldexp(gram[:d, d:], -exponents[:, None]), transposed=True)
        return np.ldexp(r, exponents), q_b, np.sqrt(np.diagonal(gram)[d:])
    size = d + problem.rights
    factor = np.zeros((size, size))
    found = _dense.triangular_factor(problem.blocks(max(8 * size, 1024)), size)
    factor[: found.shape[0]] = found
    return factor[:d, :d], factor[:d, d:], _dense.column_norms(factor[:, d:])


def _path(problem: Problem, factor: Array, q_b: Array, b_norms: Array, penalties: Array, *, flat: bool) -> RidgePath:
    n, d, k = problem.observations, problem.columns, problem.rights
    u, values, rows_of_v = _dense.svd(factor) if d else (np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0)))
    rank = int(np.sum(values > _solvers.rank_tolerance(problem.rows) * values[0])) if d and values[0] > 0 else 0
    values, rows_of_v, projected = values[:rank], rows_of_v[:rank], u[:, :rank].T @ q_b
    exponents = _dense.column_exponents(b_norms)  # no square overflows
    projected, b_norms = np.ldexp(projected, -exponents), np.ldexp(b_norms, -exponents)
    outside = np.maximum(b_norms**2 - np.sum(projected * projected, axis=0), 0.0)  # of b, off the columns of A
    x, norms = np.empty((len(penalties), d, k)), np.empty((len(penalties), k))
    degrees = np.empty(len(penalties))
    for i, penalty in enumerate(penalties):
        with np.errstate(over="ignore"):
            ratios = (np.sqrt(penalty) / values) ** 2
        shares = 1 / (1 + ratios)
        others = np.divide(ratios, 1 + ratios, out=np.ones(rank), where=np.isfinite(ratios))
        x[i] = np.ldexp(rows_of_v.T @ ((shares / values)[:, None] * projected), exponents)
        norms[i] = np.ldexp(np.sqrt(outside + np.sum((others[:, None] * projected) ** 2, axis=0)), exponents)
        degrees[i] = shares.sum()
    left = np.maximum(n - degrees, 0.0)[:, None]
    with np.errstate(over="ignore"):
        scores = np.where(left > 0, n * (norms / np.where(left > 0, left, 1.0)) ** 2, np.inf)
    return RidgePath(
        ridges=penalties,
        x=x[..., 0] if flat else x,
        residual_norms=norms[:, 0] if flat else norms,
        effective_degrees=degrees,
        generalized_cross_validation=scores[:, 0] if flat else scores,
        passes=problem.passes,
    )
