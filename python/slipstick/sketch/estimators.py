"""scikit-learn estimators over `lstsq` and `ridge_path`; needs scikit-learn 1.6 or later.

>>> from slipstick.sketch.estimators import SketchedRegression  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ._features import RandomFeatures
from ._lstsq import of_arrays
from ._ridge_path import ridge_path

Array = np.ndarray[Any, Any]


def _centred(X: Array, y: Array, weights: Array | None) -> tuple[Array, Array, Array, Array]:  # noqa: N803
    """Copies of X and y less their weighted means, and the means."""
    of_x, of_y = np.average(X, axis=0, weights=weights), np.average(y, axis=0, weights=weights)
    return X - of_x, y - of_y, of_x, of_y


class SketchedRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear least squares and ridge regression by `lstsq`.

    Args:
        alpha: penalty on the squared norm of the coefficients, 0 or more; the intercept has none.
        fit_intercept: whether the model has an intercept; it costs a copy of X.
        method, seed: as in `lstsq`.
    Attributes:
        coef_: (d,) or (k, d). intercept_: float or (k,).
        result_: the LstsqResult, with backward error, condition and standard errors of the coefficients, the intercept counted
            as one more of them.
    """

    def __init__(self, alpha: float = 0.0, fit_intercept: bool = True, method: str = "auto", seed: int = 0) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.method = method
        self.seed = seed

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SketchedRegression:  # noqa: N803
        """X: (n, d); y: (n,) or (n, k); sample_weight: (n,) or None.

        Raises:
            TypeError, ValueError: as `lstsq` and scikit-learn's checks.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True)  # noqa: N806
        y = np.asarray(y, np.float64)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float64)
        of_x, of_y = np.zeros(X.shape[1]), np.zeros(y.shape[1:])
        if self.fit_intercept:
            X, y, of_x, of_y = _centred(X.astype(np.float64), y, weights)  # noqa: N806
        self.result_ = of_arrays(X, y, ridge=self.alpha, weights=weights, method=self.method, seed=self.seed, lost=int(self.fit_intercept))
        self.coef_ = self.result_.x.T
        self.intercept_ = of_y - of_x @ self.result_.x
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """(n,) or (n, k)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)  # noqa: N806
        return np.asarray(X @ self.coef_.T + self.intercept_)


class RandomFeatureRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression on random Fourier features (Rahimi and Recht 2007), of the Gaussian kernel or bandlimited, the penalty chosen along a path by
    generalized cross-validation: with it tuned, more features do not hurt (Simon et al. 2024, arXiv:2311.14646).

    Args:
        n_components: number of features.
        length_scale: of the kernel exp(-|x - x'|^2 / (2 length_scale^2)); "auto": sqrt(d) times the standard deviation of all entries of X.
        alphas: penalties; None: 30 from 1e-8 to 1e3.
        seed: of the features, 0 to 2^64 - 1.
        bandlimit: None for the Gaussian kernel, or the largest length of a frequency, as in `RandomFeatures`.
    Attributes:
        coef_: (n_components,) or (k, n_components). intercept_: float or (k,). alpha_: the penalty chosen. length_scale_: the one used.
        path_: the RidgePath.
    """

    def __init__(
        self, n_components: int = 200, length_scale: Any = "auto", alphas: Any = None, seed: int = 0, bandlimit: float | None = None
    ) -> None:
        self.n_components = n_components
        self.length_scale = length_scale
        self.alphas = alphas
        self.seed = seed
        self.bandlimit = bandlimit

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RandomFeatureRegression:  # noqa: N803
        """X: (n, d); y: (n,) or (n, k); sample_weight: (n,) or None.

        Raises:
            TypeError, ValueError: as `ridge_path` and scikit-learn's checks.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)  # noqa: N806
        y = np.asarray(y, np.float64)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float64)
        deviation = np.sqrt(np.average((X - np.average(X, axis=0, weights=weights).mean()) ** 2, axis=0, weights=weights).mean())
        spread = float(deviation) * np.sqrt(X.shape[1])
        self.length_scale_ = (spread or 1.0) if self.length_scale == "auto" else float(self.length_scale)
        self._features = RandomFeatures(
            X.shape[1], self.n_components, length_scale=self.length_scale_, bandlimit=self.bandlimit, seed=self.seed
        )
        features, y, of_features, of_y = _centred(self._features(X), y, weights)
        alphas = np.geomspace(1e-8, 1e3, 30) if self.alphas is None else self.alphas
        self.path_ = ridge_path(features, y, alphas, weights=weights, seed=self.seed)
        best = int(np.argmin(self._scores(len(X) if weights is None else float(weights.sum()))))
        self.alpha_ = float(self.path_.ridges[best])
        self.coef_ = self.path_.x[best].T
        self.intercept_ = of_y - of_features @ self.path_.x[best]
        return self

    def predict(self, X: Any) -> Array:  # noqa: N803
        """(n,) or (n, k)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)  # noqa: N806
        return np.asarray(self._features(X) @ self.coef_.T + self.intercept_)

    def _scores(self, rows: float) -> Array:
        """Generalized cross-validation of the path with weights as counts of equal rows, and the intercept as one more degree."""
        left = rows - 1 - self.path_.effective_degrees
        squares = self.path_.residual_norms**2
        squares = squares if squares.ndim == 1 else squares.sum(axis=1)
        return np.divide(squares, left**2, out=np.full(left.shape, np.inf), where=left > 1e-6 * rows)
