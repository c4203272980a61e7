"""The backward error of a computed solution: how far is the nearest problem that it solves exactly?

Karlson and Walden 1997 estimate min |[dA, theta db]|_F over all dA, db for which x solves the least-squares problem (A + dA, b + db), by

    sqrt(theta^2 / (1 + theta^2 |x|^2)) * |(A^T A + c I)^(-1/2) A^T r|,   c = theta^2 |r|^2 / (1 + theta^2 |x|^2),   r = b - A x,

within a factor of sqrt(2) up to higher order terms (Gratton, Jimenez-Perez and Titley-Peloquin 2012, doi:10.1137/110825467). Here theta = |A|_F / |b| and the
result is divided by |A|_F, so that it compares with eps. In place of A stands a triangular factor R with R^T R = A^T A up to small relative
errors; with R from a sketch of distortion eta the estimate is off by at most (1 + eta) / (1 - eta) (Epperly, Meier and Nakatsukasa 2024, arXiv:2406.03468).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _dense

Array = np.ndarray[Any, Any]


class Certificate:
    """The singular values and right vectors of A, and what follows from them.

    Args:
        r: any matrix with d columns and r^T r = A^T A (in floating point), ridge rows included; upper triangular for standard_errors.
        b_norms: norms of the right-hand sides (k,).
    """

    def __init__(self, r: Array, b_norms: Array) -> None:
        _, self.values, self.rows_of_v = _dense.svd(r)
        self.r = r
        self.norm = float(np.linalg.norm(self.values))
        self.b_norms = b_norms

    @property
    def condition(self) -> float:
        return _dense.condition_of(self.values)

    def backward_errors(self, x: Array, gradient: Array, squared_residuals: Array) -> Array:
        """The estimate for each column of x (d, k), from gradient = A^T (b - A x) (d, k) and |b - A x|^2 (k,)."""
        out = np.zeros(x.shape[1])
        if self.norm == 0:
            return out
        projected, x_norms = self.rows_of_v @ gradient, _dense.column_norms(x)
        for k in range(x.shape[1]):
            # 1 / sqrt(1 / theta^2 + |x|^2); no square may overflow. With b = 0 only A is perturbed: theta is infinite.
            length = np.hypot(self.b_norms[k] / self.norm, x_norms[k])
            if length == 0:
                continue
            roots = np.hypot(self.values, np.sqrt(squared_residuals[k]) / length)
            terms = np.divide(projected[:, k], roots, out=np.zeros_like(roots), where=projected[:, k] != 0)
            out[k] = np.linalg.norm(terms) / length / self.norm
        return out

    def standard_errors(self, squared_residuals: Array, rows: int, ridge: float) -> Array:
        """Of each coefficient (d, k), for independent errors of one variance; NaN where rows leave none to estimate it from.

        With a ridge they are those of the shrunken estimate's noise; its bias is not in them.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            if ridge:
                shares = np.maximum(1 - ridge / self.values / self.values, 0.0)  # of each direction that is not ridge
                freedom = rows - float(np.sum(shares))
                spread = _dense.column_norms(self.rows_of_v * (np.sqrt(shares) / self.values)[:, None])
            else:
                freedom, spread = float(rows - self.r.shape[1]), self._row_norms_of_inverse()
            deviation = np.sqrt(squared_residuals / freedom) if freedom > 0.5 else np.full(squared_residuals.shape, np.nan)
        return np.outer(spread, deviation)

    def _row_norms_of_inverse(self) -> Array:
        """Of r^-1 for a triangular r, with its columns scaled: singular values below eps of the largest would be rounding."""
        exponents = _dense.column_exponents(_dense.column_norms(self.r))
        inverse = _dense.triangular_inverse(np.asfortranarray(np.ldexp(self.r, -exponents)))
        if inverse is None:
            return np.full(exponents.shape, np.nan)
        return np.ldexp(np.linalg.norm(inverse, axis=1), -exponents)
