"""Linear evaluation of features that arrive in chunks: Gaussian naive Bayes, one mergeable pass, and multinomial logistic regression, some passes.

Naive Bayes needs fewer rows than logistic regression to come near its own, larger, limit error: O(log k) rows against O(k) of k features (Ng and
Jordan 2001), so it is the head to try first where labels are few.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from slipstick._core import sketch as _core

from . import _arguments, _dense, _sources

Array = np.ndarray[Any, Any]
Features = Callable[[Any], Any]

MOST_PASSES = 200
REMEMBERED_STEPS = 20  # of the quasi-Newton method


class _Head(abc.ABC):
    """What heads share: their classes, their features, and predictions from the scores of a row, one a class."""

    def __init__(self, where: str, classes: Any, features: Features | None) -> None:
        self._where = where
        self.classes = np.asarray(classes) if np.ndim(classes) else np.arange(_arguments.integer(where, "classes", classes))
        if self.classes.ndim != 1 or self.classes.size < 2 or np.unique(self.classes).size != self.classes.size:
            raise ValueError(f"{where}: classes is {classes!r}; expected a number of 2 or more, or 2 or more different labels")
        self._order = np.argsort(self.classes)
        self._features = features

    def _mapped(self, X: Any) -> Array:  # noqa: N803
        """Features of X (n, k) as finite float64."""
        z = _arguments.matrix(self._where, "X", X if self._features is None else self._features(X)).astype(np.float64)
        _arguments.refuse_non_finite(self._where, "X" if self._features is None else "features of X", z)
        return z

    def _chunk(self, X: Any, y: Any, weights: Any) -> tuple[Array, Array, Array]:  # noqa: N803
        """Features, places of the labels in `classes`, and weights of one chunk."""
        z, labels = self._mapped(X), np.asarray(y)
        if labels.ndim != 1 or labels.shape[0] != z.shape[0]:
            raise ValueError(f"{self._where}: y has shape {labels.shape}; expected ({z.shape[0]},), one label for each row of X")
        found = np.searchsorted(self.classes, labels, sorter=self._order)
        places = self._order[np.minimum(found, self.classes.size - 1)]
        strange = np.flatnonzero(self.classes[places] != labels)
        if strange.size:
            raise ValueError(f"{self._where}: y is {labels[strange[0]]!r} at row {strange[0]}; expected one of the classes")
        scale = _arguments.row_scale(self._where, weights, z.shape[0])
        return z, places, np.ones(z.shape[0]) if scale is None else scale * scale

    @abc.abstractmethod
    def scores(self, X: Any) -> Array:  # noqa: N803
        """(n, classes): logarithms of the probabilities of the classes, up to a number common to a row."""

    def predict_log_probabilities(self, X: Any) -> Array:  # noqa: N803
        """(n, classes)."""
        scores = self.scores(X)
        scores = scores - scores.max(axis=1, keepdims=True)
        return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))

    def predict(self, X: Any) -> Array:  # noqa: N803
        """(n,) labels."""
        return np.asarray(self.classes[self.scores(X).argmax(axis=1)])


class NaiveBayesHead(_Head):
    """Gaussian naive Bayes on streamed features: each feature is normal in each class, independent of the others.

    Args:
        classes: their number K, for labels 0 to K - 1, or their labels.
        features: None, or a function from a chunk X (n, d) to its features (n, k), such as RandomFeatures.
        shared_variance: one variance a feature for all classes, which makes the head linear; else one for each class, as
            scikit-learn's GaussianNB.
        smoothing: this share of the largest variance of a feature (all classes together) is added to all variances.
    Raises:
        TypeError: classes is neither a whole number nor a list. ValueError: an argument is out of range.
    Notes:
        Means and squared deviations of parts are merged by the pairwise formula of Chan, Golub and LeVeque 1979, which does not cancel. Classes without
        rows have probability 0.
    """

    def __init__(self, classes: Any, *, features: Features | None = None, shared_variance: bool = True, smoothing: float = 1e-9) -> None:
        super().__init__("NaiveBayesHead", classes, features)
        self.shared_variance = bool(shared_variance)
        self.smoothing = _arguments.non_negative(self._where, "smoothing", smoothing)
        self._counts: Array | None = None  # [K], sums of weights; means and squared deviations are [K, k]

    def partial_fit(self, X: Any, y: Any, weight: Any = None) -> NaiveBayesHead:  # noqa: N803
        """Adds rows; returns self.

        Args:
            X: (n, d). y: labels, (n,). weight: None or (n,), 0 or more.
        Raises:
            TypeError, ValueError: shapes or dtypes that do not fit, NaN or infinity, or a label that is no class. The state is unchanged then.
        """
        z, places, weights = self._chunk(X, y, weight)
        members = (places == np.arange(self.classes.size)[:, None]) * weights  # [K, n]
        counts = members.sum(axis=1)
        means = members @ z / np.where(counts > 0, counts, 1)[:, None]
        squares = np.stack([row @ (z - mean) ** 2 for row, mean in zip(members, means)])
        self._add(counts, means, squares)
        return self

    def merge(self, other: NaiveBayesHead) -> NaiveBayesHead:
        """Adds the rows of the head `other`; returns self.

        Raises:
            TypeError, ValueError: other is not such a head, or has other classes or features.
        """
        if not isinstance(other, NaiveBayesHead):
            raise TypeError(f"merge: other is {type(other).__name__}; expected NaiveBayesHead")
        if not np.array_equal(self.classes, other.classes):
            raise ValueError(f"merge: classes is {other.classes} in other; expected {self.classes}")
        if other._counts is not None:
            self._add(other._counts, other._means, other._squares)
        return self

    def _add(self, counts: Array, means: Array, squares: Array) -> None:
        if self._counts is None:
            self._counts, self._means, self._squares = counts, means, squares
            return
        if means.shape != self._means.shape:
            raise ValueError(f"{self._where}: X has {means.shape[1]} features; expected {self._means.shape[1]}, as before")
        total = self._counts + counts
        share = (counts / np.where(total > 0, total, 1))[:, None]
        step = means - self._means
        self._squares = self._squares + squares + step**2 * share * self._counts[:, None]
        self._means = self._means + step * share
        self._counts = total

    def scores(self, X: Any) -> Array:  # noqa: N803
        """(n, classes): logarithms of the probabilities of the classes, up to a number common to a row, for X (n, d).

        Raises:
            TypeError, ValueError: X does not fit, or no rows were seen.
        """
        z = self._mapped(X)
        counts = self._counts
        if counts is None or not counts.sum() > 0:
            raise ValueError(f"{self._where}: no rows were seen; expected partial_fit first")
        total = counts.sum()
        mean = counts @ self._means / total
        overall = (self._squares.sum(axis=0) + counts @ (self._means - mean) ** 2) / total
        if self.shared_variance:
            variances = np.broadcast_to(self._squares.sum(axis=0) / total, self._means.shape)
        else:
            variances = self._squares / np.where(counts > 0, counts, 1)[:, None]
        variances = variances + self.smoothing * overall.max(initial=0.0)
        if not (variances[counts > 0] > 0).all():
            raise ValueError(f"{self._where}: a feature has variance 0 in a class; expected a smoothing above 0")
        out = np.full((z.shape[0], counts.size), -np.inf)
        for c in np.flatnonzero(counts):
            deviations = (z - self._means[c]) ** 2 / variances[c]
            out[:, c] = np.log(counts[c] / total) - 0.5 * (deviations.sum(axis=1) + np.log(2 * np.pi * variances[c]).sum())
        return out


class LogisticHead(_Head):
    """Multinomial logistic regression on streamed features: least sum_i w_i CE(row i) + ridge / 2 sum_c |coefficients_c|^2, the intercepts without
    penalty. As scikit-learn's LogisticRegression with C = 1 / ridge for three classes or more; for two, whose single vector is the difference
    of ours, with C = 2 / ridge.

    Args:
        classes, features: as of NaiveBayesHead.
        ridge: 0 or more.
        tolerance: how far to go: the preconditioned gradient of the mean loss, at most. The mean loss is then above the least by some
            tolerance^2, times what the Hessian is smaller than its bound.
        threads: of the pass that makes the Gram matrix.
    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    Attributes:
        coefficients: (K, k). intercepts: (K,); they sum to 0. passes: reads of the source. gradient: what tolerance bounds. loss: the objective.
    Notes:
        Limited-memory quasi-Newton steps (Liu and Nocedal 1989), one read of the source for each, in the coordinates in which the bound 1/2 Z^T W Z + ridge of
        the Hessian (Boehning 1992) is the identity: so the number of passes does not grow with the condition of the features.
    """

    def __init__(
        self,
        classes: Any,
        *,
        features: Features | None = None,
        ridge: float = 1.0,
        tolerance: float = 1e-6,
        threads: int | None = None,
    ) -> None:
        super().__init__("LogisticHead", classes, features)
        self.ridge = _arguments.non_negative(self._where, "ridge", ridge)
        self.tolerance = _arguments.non_negative(self._where, "tolerance", tolerance)
        self._threads = _arguments.thread_count(self._where, threads)

    def fit(self, source: _sources.Source) -> LogisticHead:
        """Fits to chunks (X, y) or (X, y, weights) of a source that can be read again and again; returns self.

        Raises:
            TypeError, ValueError: as NaiveBayesHead.partial_fit; a source that can be read once, or has no rows.
        Warns:
            RuntimeWarning: the tolerance was not reached, as where classes are separable and there is no ridge.
        """
        from scipy.optimize import minimize

        _sources.refuse_iterator(self._where, source)
        self.passes = 0
        gram = self._gram(source)
        total, size, count = gram[-1, -1], gram.shape[0], self.classes.size
        if not total > 0:
            raise ValueError(f"{self._where}: source has no rows of a weight above 0; expected some")
        penalty = np.append(np.full(size - 1, self.ridge), 0.0)
        bound = 0.5 * gram + np.diag(penalty)
        # Where features depend on each other and there is no ridge, directions without any curvature are given a little.
        r = _dense.cholesky(bound + np.diag(1e-12 * np.maximum(np.diagonal(bound), np.diagonal(bound).max() * 1e-12)) * (self.ridge == 0))
        if r is None:
            raise ValueError(f"{self._where}: features have no finite Gram matrix; expected smaller magnitudes")
        r = r / np.sqrt(total)

        def objective(flat: Array) -> tuple[float, Array]:
            weights = _dense.triangular_solve(r, flat.reshape(size, count))
            loss, gradient = self._pass(source, weights)
            loss += 0.5 * float(np.sum(penalty[:, None] * weights**2))
            gradient += penalty[:, None] * weights
            return loss / total, _dense.triangular_solve(r, gradient / total, transposed=True).ravel()

        options = {"maxfun": MOST_PASSES, "maxiter": MOST_PASSES, "maxcor": REMEMBERED_STEPS, "ftol": 0.0, "gtol": self.tolerance}
        found = minimize(objective, np.zeros(size * count), jac=True, method="L-BFGS-B", options=options)
        weights = _dense.triangular_solve(r, found.x.reshape(size, count))
        self.coefficients, self.intercepts = weights[:-1].T, weights[-1] - weights[-1].mean()
        self.loss, self.gradient = float(found.fun * total), float(np.abs(found.jac).max(initial=0.0))
        if self.gradient > self.tolerance:
            warnings.warn(
                f"LogisticHead: gradient is {self.gradient:.1e} after {self.passes} passes, above the tolerance {self.tolerance:.1e}",
                RuntimeWarning,
                stacklevel=2,
            )
        return self

    def scores(self, X: Any) -> Array:  # noqa: N803
        """(n, classes): logarithms of the probabilities of the classes, up to a number common to a row, for X (n, d).

        Raises:
            TypeError, ValueError: X does not fit, or the head was not fitted.
        """
        if not hasattr(self, "coefficients"):
            raise ValueError(f"{self._where}: the head has no coefficients; expected fit first")
        return np.asarray(self._mapped(X) @ self.coefficients.T + self.intercepts)

    def _chunks(self, source: _sources.Source) -> Iterator[tuple[Array, Array, Array]]:
        """[features, 1], places of labels and weights."""
        self.passes += 1
        for X, y, row_weights in _sources.raw_chunks(self._where, source):  # noqa: N806
            z, places, weights = self._chunk(X, y, row_weights)
            yield np.column_stack((z, np.ones(z.shape[0]))), places, weights

    def _gram(self, source: _sources.Source) -> Array:
        total: Any = 0.0
        for z, _, weights in self._chunks(source):
            part = np.empty((z.shape[1], z.shape[1]))
            _core.gram(z, np.zeros((z.shape[0], 0)), np.sqrt(weights), None, part, self._threads)
            total = total + part
        return np.atleast_2d(total)

    def _pass(self, source: _sources.Source, weights: Array) -> tuple[float, Array]:
        """The loss and its gradient (k + 1, K), without the penalty."""
        loss, gradient = 0.0, np.zeros_like(weights)
        for z, places, row_weights in self._chunks(source):
            scores = z @ weights
            scores -= scores.max(axis=1, keepdims=True)
            of_label = scores[np.arange(places.size), places]
            np.exp(scores, out=scores)
            sums = scores.sum(axis=1)
            loss += float(row_weights @ (np.log(sums) - of_label))
            scores /= sums[:, None]
            scores[np.arange(places.size), places] -= 1
            gradient += z.T @ (scores * row_weights[:, None])
        return loss, gradient
