"""Losses of the spherical family with their derivatives, over the label's logit o, the sum s and the sum of squares q of a row's K logits.

NumPy, for SphericalHead; the same losses with autograd are in _spherical_family.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


class SphericalLoss(NamedTuple):
    """Values (m,) and derivatives (m,) with respect to o, s and q."""

    value: Array
    of_label: Array
    of_sum: Array
    of_squares: Array


Formula = Callable[[Array, Array, Array, int], SphericalLoss]


def z_score(*, alpha: float = 1.0, beta: float = 0.0) -> Formula:
    """(1/alpha) softplus(alpha (beta - zeta)), zeta = (o - mean) / deviation (arXiv:1604.08859)."""

    def formula(label: Array, total: Array, squares: Array, classes: int) -> SphericalLoss:
        mean = total / classes
        variance = squares / classes - mean * mean
        spread = variance > 0
        variance = np.where(spread, variance, 1.0)
        deviation = np.sqrt(variance)
        zeta = np.where(spread, (label - mean) / deviation, 0.0)
        lacking = alpha * (beta - zeta)
        slope = np.where(spread, -np.exp(-np.logaddexp(0.0, -lacking)), 0.0)
        of_label = slope / deviation
        of_squares = -slope * zeta / (2 * variance * classes)
        return SphericalLoss(np.logaddexp(0.0, lacking) / alpha, of_label, -of_label / classes - 2 * mean * of_squares, of_squares)

    return formula


def spherical_softmax(*, epsilon: float = 1e-2) -> Formula:
    """-log((o^2 + epsilon) / (q + K epsilon)) (arXiv:1511.05042)."""

    def formula(label: Array, total: Array, squares: Array, classes: int) -> SphericalLoss:
        mass, own = squares + classes * epsilon, label * label + epsilon
        return SphericalLoss(np.log(mass) - np.log(own), -2 * label / own, np.zeros_like(total), 1 / mass)

    return formula


def taylor_softmax() -> Formula:
    """-log((1 + o + o^2/2) / (K + s + q/2)) (arXiv:1511.05042)."""

    def formula(label: Array, total: Array, squares: Array, classes: int) -> SphericalLoss:
        mass, own = classes + total + squares / 2, 1 + label + label * label / 2
        return SphericalLoss(np.log(mass) - np.log(own), -(1 + label) / own, 1 / mass, 0.5 / mass)

    return formula


def squared_error() -> Formula:
    """q - 2 o + 1, the squared distance from the one-hot label (arXiv:1412.7091)."""

    def formula(label: Array, total: Array, squares: Array, classes: int) -> SphericalLoss:
        return SphericalLoss(squares - 2 * label + 1, np.full_like(label, -2.0), np.zeros_like(total), np.ones_like(squares))

    return formula


FORMULAS: dict[str, Callable[..., Formula]] = {
    "z_score": z_score,
    "spherical_softmax": spherical_softmax,
    "taylor_softmax": taylor_softmax,
    "squared_error": squared_error,
}
