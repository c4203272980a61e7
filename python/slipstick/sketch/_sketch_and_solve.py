"""`sketch_and_solve`: the least-squares problem of a sketch, with error bars for what the sketch lost."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from . import _arguments, _dense, _operators
from ._problem import Problem

Array = np.ndarray[Any, Any]

DEFAULT_ROWS_A_COLUMN = 16
HADAMARD_ROWS = 512  # of a block of the streamed transform


@dataclasses.dataclass(frozen=True)
class SketchedSolution:
    """The solution of a sketched problem.

    Attributes:
        x: float64 (d,) or (d, k).
        standard_errors: of x against the exact least-squares solution, shaped as x: the error that sketching made, not the noise of the data.
        degrees_of_freedom: rows of the sketch less d; that of Student's distribution in `interval`.
        residual_norm: estimate of |b - A x| at the exact solution.
        condition: of the sketched matrix; within the sketch's distortion that of A.
    """

    x: Array
    standard_errors: Array
    degrees_of_freedom: int
    residual_norm: Any
    condition: float

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Ends of intervals that hold the coefficient of the exact solution with probability `level`, each coefficient for itself.

        Raises:
            ValueError: level is not between 0 and 1.
        """
        from scipy.special import stdtrit

        if not 0 < level < 1:
            raise ValueError(f"interval: level is {level}; expected a number between 0 and 1")
        width = float(stdtrit(self.degrees_of_freedom, 0.5 + level / 2)) * self.standard_errors
        return self.x - width, self.x + width


def sketch_and_solve(
    A: Any,  # noqa: N803
    b: Any,
    *,
    kind: str = "srht",
    rows: int | None = None,
    seed: int = 0,
    ridge: float = 0.0,
    weights: Any = None,
    threads: int | None = None,
) -> SketchedSolution:
    """An approximate solution in one read of A: argmin |S (A x - b)|^2 + ridge |x|^2, with error bars.

    What is proven, for x' = sketched and x* = exact solution, r = b - A x*, full rank, no ridge:
      - kind "gaussian": given S A, x' - x* is normal with mean 0 and covariance (|r|^2 / rows) ((S A)^T S A)^-1, because S r is independent of
        S A. So the intervals are exact, and |x' - x*|_inf <= O(sqrt(log(d) / rows)) |r| |A^+| with high probability.
      - kind "srht": such a bound is proven for rows = d^(1 + o(1)) / eps^2 (Price, Song and Woodruff 2017, arXiv:1705.10723). For rows in
        O(d log^3 d / eps^2) (Song, Ye, Yin and Zhang 2023, arXiv:2302.00248) the published proof has a gap its authors acknowledge; no failure is
        known. The intervals are those of the Gaussian case, less what sampling without replacement saves: a heuristic, whose coverage the tests measure.
        They are too wide where the energy lies in few blocks of 512 rows.
      - kind "gaussian_pooled": given its Hadamard stage, rows of S [A b] are independent and normal, which is the step the srht lacks; Song and Zhang
        2026 (a preprint) prove the bound above for rows in O(d log(d) / eps^2) where all rows of the transform are pooled, in groups longer than is practical. Here
        groups have 8 sampled rows: the intervals are the Gaussian ones widened by the variance that this adds, at most 1.25 times; a heuristic, measured by the tests.
      - kinds "sjlt" and "countsketch": bounds in the 2-norm only. On data with few energetic rows errors collect on single coefficients, and
        the intervals may be too narrow.

    Args:
        A, b, weights, ridge, threads: as in `lstsq`; with a ridge, the bars are those of its sketched solution around the exact ridge solution.
        kind, seed: as in `sketch`.
        rows: of the sketch, more than d; default 16 d, at least d + 16.
    Returns:
        SketchedSolution. Three to five digits: use `lstsq` for more.
    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: shapes that do not match, NaN or infinity in A, b or weights, a number out of range, or a sketched matrix of deficient rank.
    """
    where = "sketch_and_solve"
    matrix = _arguments.matrix(where, "A", A)
    right = _arguments.matrix(where, "b", b, dimensions=(1, 2))
    _arguments.same_rows(where, "b", right, matrix.shape[0])
    d = matrix.shape[1]
    count = max(DEFAULT_ROWS_A_COLUMN * d, d + 16) if rows is None else _arguments.positive_integer(where, "rows", rows)
    if count <= d:
        raise ValueError(f"{where}: rows is {count}; expected more than {d}, the columns of A")
    kind = _arguments.one_of(where, "kind", kind, _operators.KINDS)
    problem = Problem(
        where,
        matrix,
        right if right.ndim == 2 else right[:, None],
        _arguments.row_scale(where, weights, matrix.shape[0]),
        _arguments.non_negative(where, "ridge", ridge),
        _arguments.seed_of(where, seed),
        _arguments.thread_count(where, threads),
    )
    core_kind, nonzeros = _operators.core_kind(kind, count)
    sketched = problem.sketch(core_kind, count, nonzeros)
    if not np.isfinite(sketched).all():
        problem.refuse_non_finite()
    solution = solve_sketched(where, sketched, d, problem.ridge, flat=right.ndim == 1)
    kept = _variance(kind, count, problem.rows)
    if kept != 1:  # of the variance; and so of the share d / count of the residual that the fit takes
        solution = dataclasses.replace(
            solution,
            standard_errors=np.sqrt(kept) * solution.standard_errors,
            residual_norm=np.sqrt((1 - d / count) / (1 - kept * d / count)) * solution.residual_norm,
        )
    return solution


def _variance(kind: str, count: int, rows: int) -> float:
    """The variance of the error of a sketch of `count` rows of a matrix of `rows`, in units of that of a Gaussian sketch."""
    if kind == "gaussian_pooled":
        # Of products of two orthogonal flat vectors: 1 + 1 / POOLED from the normal numbers, and what the sample of the transform's rows errs.
        return 1 + (1 + _variance("srht", _operators.POOLED * count, rows)) / _operators.POOLED
    if kind != "srht":
        return 1.0
    # Samples without replacement of the transform's rows: the correction for a finite population.
    blocks = -(-rows // HADAMARD_ROWS)
    population = HADAMARD_ROWS << max(blocks - 1, 0).bit_length()
    # Beyond the population each row is taken equally often, and `extra` of them once more: only the choice of these errs.
    extra = count % population
    return extra / count * (1 - extra / population)


def solve_sketched(where: str, sketched: Array, d: int, ridge: float, *, flat: bool) -> SketchedSolution:
    """The solution and bars of a sketch S [A b] of finite numbers.

    Raises:
        ValueError: the rank of S A with the ridge is deficient.
    """
    rows, k = sketched.shape[0], sketched.shape[1] - d
    exponents = _dense.column_exponents(np.linalg.norm(sketched[:, :d], axis=0) + np.sqrt(ridge))
    scaled = sketched.copy()
    scaled[:, :d] = np.ldexp(sketched[:, :d], -exponents)
    below = np.zeros((d if ridge else 0, d + k))
    if ridge:
        below[:, :d] = np.ldexp(np.sqrt(ridge) * np.eye(d), -exponents)
    factor = _dense.triangular_factor([scaled, below], d + k)
    r = np.asfortranarray(factor[:d, :d])
    values = _dense.singular_values(r) if d else np.ones(0)
    inverse = _dense.triangular_inverse(r) if d and values[-1] > 1e-15 * values[0] else None
    if d and inverse is None:
        raise ValueError(
            f"{where}: the columns of A are dependent to working precision in the sketch; expected full rank (lstsq takes any)"
        )
    if inverse is None:
        inverse = np.zeros((0, 0))
    x = np.ldexp(inverse @ factor[:d, d:], -exponents[:, None])
    rest = sketched[:, d:] - sketched[:, :d] @ x
    freedom = rows - d
    norms = np.sqrt(np.sum(rest * rest, axis=0) * rows / freedom)
    # S S^T is I / rows times the squared residual; the ridge rows are not sketched and carry no error.
    middle = inverse @ (inverse.T @ scaled[:, :d].T) if ridge else inverse
    spread = np.ldexp(np.linalg.norm(middle, axis=1), -exponents)
    errors = np.outer(spread, norms / np.sqrt(rows))
    return SketchedSolution(
        x=x[:, 0] if flat else x,
        standard_errors=errors[:, 0] if flat else errors,
        degrees_of_freedom=freedom,
        residual_norm=float(norms[0]) if flat else norms,
        condition=_dense.condition_of(_dense.singular_values(np.ldexp(r, exponents))) if d else 1.0,
    )
