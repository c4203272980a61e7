# Contract: the estimators keep scikit-learn's rules and agree with its own on its bundled data.
from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from slipstick.sketch import lstsq
from slipstick.sketch.estimators import RandomFeatureRegression, SketchedRegression

pytestmark = pytest.mark.kernel


@parametrize_with_checks(
    [SketchedRegression(), RandomFeatureRegression(n_components=50), RandomFeatureRegression(n_components=50, bandlimit=0.5)]
)
def test_estimators_keep_the_rules(estimator, check):
    check(estimator)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_agrees_with_scikit_learn_on_its_data(alpha, intercept, weighted):
    for X, y in (load_diabetes(return_X_y=True), load_digits(return_X_y=True)):  # noqa: N806
        weights = np.random.default_rng(0).random(len(y)) + 0.5 if weighted else None
        peer = Ridge(alpha, fit_intercept=intercept, solver="cholesky") if alpha else LinearRegression(fit_intercept=intercept)
        peer.fit(X, y, weights)
        ours = SketchedRegression(alpha, fit_intercept=intercept).fit(X, y, weights)
        np.testing.assert_allclose(ours.predict(X), peer.predict(X), rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(ours.coef_, peer.coef_, rtol=1e-7, atol=1e-8 * np.abs(peer.coef_).max())
        assert ours.result_.certified


@pytest.mark.parametrize("intercept", [True, False])
def test_standard_errors_count_the_intercept(intercept):
    random = np.random.default_rng(1)
    X, y, weights = random.standard_normal((12, 4)) + 2, random.standard_normal(12), random.random(12)  # noqa: N806
    weights[-1] = 0
    full = np.column_stack([X, np.ones(12)]) if intercept else X
    want = lstsq(full, y, weights=weights).standard_errors[:4]
    ours = SketchedRegression(fit_intercept=intercept).fit(X, y, weights)
    np.testing.assert_allclose(ours.result_.standard_errors, want, rtol=1e-9)
    # As many rows as coefficients leave none to estimate the noise from.
    few = SketchedRegression(fit_intercept=intercept).fit(X[: full.shape[1]], y[: full.shape[1]])
    assert np.isnan(few.result_.standard_errors).all()


def test_random_features_learn_digits_and_more_of_them_do_not_hurt():
    X, y = load_digits(return_X_y=True)  # noqa: N806
    targets = np.eye(10)[y]
    accuracy = []
    for components in (30, 100, 400):
        model = RandomFeatureRegression(components, seed=1).fit(X[:900], targets[:900])
        accuracy.append(np.mean(model.predict(X[900:]).argmax(1) == y[900:]))
    assert accuracy[0] < accuracy[1] < accuracy[2]
    assert accuracy[2] > 0.9


def test_what_lies_outside_the_band_is_not_learned():
    random = np.random.default_rng(2)
    X = random.uniform(-1, 1, (2000, 1))  # noqa: N806
    y = np.sin(2 * X[:, 0]) + np.sin(40 * X[:, 0])  # half of the energy at a frequency of 40

    def error(band, components):
        model = RandomFeatureRegression(components, bandlimit=band).fit(X[:1000], y[:1000])
        return np.sqrt(np.mean((model.predict(X[1000:]) - y[1000:]) ** 2))

    assert error(45.0, 200) < 0.01
    for components in (50, 200, 800):
        assert 0.65 < error(5.0, components) < 0.75  # sin(40 x) has a root mean square of 0.7
    with pytest.raises(ValueError, match=r"RandomFeatures: bandlimit is 0\.0; expected a number above 0"):
        RandomFeatureRegression(bandlimit=0).fit(X, y)
