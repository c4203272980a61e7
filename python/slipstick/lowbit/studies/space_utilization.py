"""How well a distribution fills the range of its quantizer, and orthogonal and scaling transforms that fill it better.

OSTQuant (Hu et al. 2025, arXiv 2501.13987) measures the quantization space utilization rate: the volume of the ellipsoid that holds a share
alpha of a normal distribution, over the volume of the cube that one quantization range for all dimensions spans. A pair of transforms
T = O diag(s) on one side and its inverse on the other leaves a product of matrices as it is and can raise the rate.

>>> covariance = np.diag([100.0, 1.0, 1.0, 1.0])  # one dimension with outliers
>>> rotation = equalizing_rotation(covariance)
>>> rates = [space_utilization(cov, root=True) for cov in (covariance, rotation.T @ covariance @ rotation)]
>>> [round(rate, 3) for rate in rates]
[0.133, 0.261]
>>> orthogonal, scales = whitening_transform(covariance)  # no transform has a higher rate
>>> round(space_utilization((orthogonal * scales).T @ covariance @ (orthogonal * scales), root=True), 3)
0.745

The formula was read in a derivation of the paper, not in the paper itself. Learning O and s by gradient and the KL-Top loss are left out.
"""

from __future__ import annotations

import importlib
from math import lgamma, log, pi
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["equalizing_rotation", "hadamard", "log_space_utilization", "space_utilization", "whitening_transform"]


def log_space_utilization(covariance: ArrayLike, *, mean: ArrayLike | None = None, alpha: float = 0.99, box: str = "exact") -> float:
    """Natural logarithm of the quantization space utilization rate, which under- or overflows in many dimensions.

    Args:
        covariance: (d, d), symmetric, positive semidefinite.
        mean: (d,); default 0.
        alpha: share of the distribution within the ellipsoid, between 0 and 1; our default.
        box: "exact" takes the ellipsoid's own bounding box, mean_j +- sqrt(c covariance_jj), c the quantile of chi-squared with d degrees of
            freedom. "paper" takes the range of the end points of the principal axes, which lies within it: a rate that is too high, above
            1 in places.
    Returns:
        log of V_ellipsoid / V_cube, the side of the cube being the largest upper minus the smallest lower end; -inf where the covariance
        is singular.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: shapes, a covariance that is not symmetric or has a negative eigenvalue beyond rounding, alpha or box out of range, or a
            distribution that is a single point.
    Notes:
        Needs SciPy for the quantile. The rate does not change when all dimensions are scaled by one number.

    >>> round(log_space_utilization(np.eye(2)), 6) == round(float(np.log(np.pi / 4)), 6)  # a disc in its square
    True
    """
    where = "log_space_utilization"
    matrix = _covariance(where, covariance)
    d = len(matrix)
    center = np.zeros(d) if mean is None else _checks.array(where, "mean", mean, dimensions=1)
    if center.shape != (d,):
        raise ValueError(f"{where}: mean has length {center.size}; expected {d}, as covariance is {matrix.shape}")
    alpha = _checks.real(where, "alpha", alpha, above=0)
    if alpha >= 1:
        raise ValueError(f"{where}: alpha is {alpha}; expected a number between 0 and 1")
    if box not in ("exact", "paper"):
        raise ValueError(f"{where}: box is {box!r}; expected 'exact' or 'paper'")
    c = 2 * float(importlib.import_module("scipy.special").gammaincinv(d / 2, alpha))
    values, vectors = np.linalg.eigh(matrix)
    values = np.maximum(values, 0)
    # an eigenvalue at the level of rounding is that of a singular matrix
    log_determinant = float(np.sum(np.log(values))) if values[0] > d * np.finfo(float).eps * values[-1] else -np.inf
    reach = np.sqrt(c * np.maximum(np.diagonal(matrix), 0)) if box == "exact" else np.abs(vectors * np.sqrt(c * values)).max(axis=1)
    side = float((center + reach).max() - (center - reach).min())
    if side == 0:
        raise ValueError(f"{where}: covariance is zero; expected a distribution that is more than one point")
    return d / 2 * log(pi) - lgamma(d / 2 + 1) + d / 2 * log(c) + log_determinant / 2 - d * log(side)


def space_utilization(
    covariance: ArrayLike, *, mean: ArrayLike | None = None, alpha: float = 0.99, box: str = "exact", root: bool = False
) -> float:
    """The quantization space utilization rate, or its d-th root, which the paper plots.

    Args, Raises:
        As for `log_space_utilization`. root: whether to take the d-th root.
    Returns:
        float from 0 to 1 with the exact box.

    >>> round(space_utilization(np.diag([4.0, 1.0])), 4)  # an ellipse of half-axes 2 and 1 in a square of side 4
    0.3927
    """
    value = log_space_utilization(covariance, mean=mean, alpha=alpha, box=box)
    return float(np.exp(value / len(np.asarray(covariance)) if root else value))


def whitening_transform(covariance: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthogonal O and scales s such that x @ (O * s) has the identity for its covariance.

    Among all linear transforms of a distribution with mean 0 this has the highest exact utilization rate: by Hadamard's inequality the
    determinant of a covariance is at most the product of its diagonal, hence at most the power of its largest entry.

    Args:
        covariance: (d, d) of row vectors x, symmetric, positive definite.
    Returns:
        (O, s): (d, d) float64 with orthonormal columns, the eigenvectors, and (d,) float64, positive. The inverse is (O / s).T: put it before
        the next matrix, and the product stays.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: covariance is not symmetric or not positive definite.

    >>> orthogonal, scales = whitening_transform([[2.0, 1.0], [1.0, 2.0]])
    >>> transform, inverse = orthogonal * scales, (orthogonal / scales).T
    >>> np.allclose(transform @ inverse, np.eye(2)), np.allclose(transform.T @ [[2.0, 1.0], [1.0, 2.0]] @ transform, np.eye(2))
    (True, True)
    """
    where = "whitening_transform"
    values, vectors = np.linalg.eigh(_covariance(where, covariance))
    if not values[0] > len(values) * np.finfo(float).eps * values[-1]:
        raise ValueError(f"{where}: covariance has eigenvalues from {values[0]:g} to {values[-1]:g}; expected a positive definite matrix")
    return vectors, 1 / np.sqrt(values)


def equalizing_rotation(covariance: ArrayLike) -> NDArray[np.float64]:
    """A rotation after which every dimension has the same variance: the best that an orthogonal transform alone can do.

    The trace stays under rotation, so the largest variance cannot fall below the mean one. With mean 0 that makes the exact utilization
    rate the highest among all orthogonal transforms. d - 1 rotations of pairs of dimensions suffice, for any d.

    Args:
        covariance: (d, d) of row vectors x, symmetric, positive semidefinite.
    Returns:
        (d, d) float64 orthogonal R; x @ R has the covariance R.T @ covariance @ R, its diagonal constant to about 1e-15 of the largest entry.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: covariance is not symmetric or has a negative eigenvalue.

    >>> rotation = equalizing_rotation(np.diag([9.0, 0.0, 0.0]))
    >>> np.diagonal(rotation.T @ np.diag([9.0, 0.0, 0.0]) @ rotation).round(12)
    array([3., 3., 3.])
    """
    matrix = _covariance("equalizing_rotation", covariance).copy()
    d = len(matrix)
    rotation = np.eye(d)
    goal = np.trace(matrix) / d
    left = list(range(d))
    while len(left) > 1:
        diagonal = np.diagonal(matrix)
        high, low = max(left, key=lambda j: diagonal[j]), min(left, key=lambda j: diagonal[j])
        a, b, c = matrix[high, high] - goal, matrix[high, low], matrix[low, low] - goal
        if not a > 0 > c:  # all that are left are equal
            break
        # cos^2 a + 2 cos sin b + sin^2 c = 0 makes the first of the two equal to the goal; as a > 0 > c the tangent has a real root
        tangent = -a / (b + np.copysign(np.sqrt(b * b - a * c), b))
        cosine = 1 / np.hypot(1, tangent)
        pair = np.array([[cosine, -tangent * cosine], [tangent * cosine, cosine]])
        matrix[:, [high, low]] = matrix[:, [high, low]] @ pair
        matrix[[high, low]] = pair.T @ matrix[[high, low]]
        rotation[:, [high, low]] = rotation[:, [high, low]] @ pair
        left.remove(high)
    return rotation


def hadamard(size: int) -> NDArray[np.float64]:
    """The orthonormal Hadamard matrix of Sylvester's construction: entries +-1 / sqrt(size), symmetric.

    Args:
        size: a power of two, up to 2^14.
    Raises:
        TypeError, ValueError: size is no such int.
    Notes:
        After whitening, any rotation keeps the rate; after a rotation to eigenvectors, this one gives all dimensions the same variance.

    >>> hadamard(2).round(4)
    array([[ 0.7071,  0.7071],
           [ 0.7071, -0.7071]])
    """
    size = _checks.integer("hadamard", "size", size, 1, 2**14)
    if size & (size - 1):
        raise ValueError(f"hadamard: size is {size}; expected a power of two")
    signs = np.ones((1, 1))
    while len(signs) < size:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs / np.sqrt(size)


def _covariance(where: str, covariance: Any) -> NDArray[np.float64]:
    matrix = _checks.array(where, "covariance", covariance, dimensions=2)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{where}: covariance has shape {matrix.shape}; expected a square matrix")
    scale = float(np.abs(matrix).max())
    skew = float(np.abs(matrix - matrix.T).max())
    if skew > 1e-8 * scale:
        raise ValueError(f"{where}: covariance differs from its transpose by {skew:g}; expected a symmetric matrix")
    matrix = (matrix + matrix.T) / 2
    lowest = float(np.linalg.eigvalsh(matrix)[0])
    if lowest < -1e-8 * scale:
        raise ValueError(f"{where}: covariance has the eigenvalue {lowest:g}; expected none below 0")
    return matrix
