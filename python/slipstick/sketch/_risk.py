"""The risk of ridge regression on random features, before it is run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from . import _arguments


@dataclasses.dataclass(frozen=True)
class FeatureRisk:
    """Expected mean squared errors of ridge regression on random features.

    Attributes:
        test, train: errors on new rows (their noise included) and on the rows of the fit.
        kappa, gamma: the two scales of the theory: modes of eigenvalue below gamma are not learned.
    """

    test: float
    train: float
    kappa: float
    gamma: float


def random_feature_risk(
    eigenvalues: Any, coefficients: Any, *, samples: int, features: float, ridge: float, noise: float = 0.0
) -> FeatureRisk:
    """Predicts the errors of random-feature ridge regression from the spectrum of its kernel (Simon, Karkada, Ghosh and Belkin 2024, "More is
    better", arXiv:2311.14646, the eigenframework of random features).

    Args:
        eigenvalues: (M,) of the limiting kernel, positive.
        coefficients: (M,) of the target in the kernel's orthonormal eigenfunctions.
        samples: n, rows of the fit, 1 or more.
        features: k, 1 or more; infinity for the kernel itself.
        ridge: the penalty on |w|^2 beside the sum of squared errors, with features scaled by 1 / sqrt(k); above 0.
        noise: variance of the target's noise.
    Returns:
        FeatureRisk. Exact as n, k and M grow in proportion, under Gaussian universality of the eigenfunctions; within 5 % in simulations from
        n = 50 on. With the ridge at its best the test error falls with more samples and with more features.
    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or range.
    """
    where = "random_feature_risk"
    spectrum = _arguments.matrix(where, "eigenvalues", eigenvalues, dimensions=(1,)).astype(np.float64)
    target = _arguments.matrix(where, "coefficients", coefficients, dimensions=(1,)).astype(np.float64)
    if spectrum.shape != target.shape or not spectrum.size:
        raise ValueError(f"{where}: coefficients has shape {target.shape}; expected {spectrum.shape}, that of eigenvalues, and not empty")
    if not ((spectrum > 0) & np.isfinite(spectrum)).all() or not np.isfinite(target).all():
        raise ValueError(f"{where}: eigenvalues or coefficients hold a number out of range; expected positive eigenvalues, all finite")
    n = _arguments.positive_integer(where, "samples", samples)
    penalty, variance = _arguments.non_negative(where, "ridge", ridge), _arguments.non_negative(where, "noise", noise)
    k = float(features)
    if penalty == 0 or not k >= 1:
        raise ValueError(f"{where}: ridge is {penalty} and features {k}; expected a ridge above 0 and features of 1 or more")

    def learned(gamma: float) -> float:
        return float(np.sum(spectrum / (spectrum + gamma)))

    def share(z: float) -> float:
        return 1 - z / k  # kappa / gamma, by k = z + k kappa / gamma

    # n = z + ridge / kappa with kappa = gamma share(z): left less right rises with gamma. Bisection on its logarithm.
    low, high = -300.0, 300.0
    for _ in range(100):
        middle = (low + high) / 2
        gamma = 10.0**middle
        z = learned(gamma)
        if share(z) > 0 and (n - z) * gamma * share(z) > penalty:
            high = middle
        else:
            low = middle
    gamma = 10.0**high
    modes = spectrum / (spectrum + gamma)
    z, q = float(modes.sum()), float(np.sum(modes**2))
    kappa = gamma * share(z)
    rest = 1 - q / k
    missed = 1 - modes - kappa * modes / (spectrum + gamma) / rest
    overfitting = 1 - (q * (1 - 2 * z / k) + z * (z / k)) / (n * rest)
    test = (float(np.sum(missed * target**2)) + variance) / overfitting
    return FeatureRisk(test=test, train=test * (penalty / (n * kappa)) ** 2, kappa=kappa, gamma=gamma)
