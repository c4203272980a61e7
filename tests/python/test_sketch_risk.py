# Contract: random_feature_risk is the formula of the paper (values worked out from its definition) and predicts simulated risk.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import sketch

SPECTRUM = 1.0 / np.arange(1, 201) ** 2


@pytest.mark.parametrize(
    ("features", "noise", "kappa", "gamma", "test", "train"),
    [
        (100, 0.0, 8.501315e-4, 1.376444e-3, 0.0599337, 0.00331710),
        (100, 0.1, 8.501315e-4, 1.376444e-3, 0.256373, None),
        (np.inf, 0.0, 1.158801e-3, 1.158801e-3, 0.0397304, 0.00118349),
    ],
)
def test_values_of_the_definition(features, noise, kappa, gamma, test, train):
    risk = sketch.random_feature_risk(SPECTRUM, np.sqrt(SPECTRUM), samples=50, features=features, ridge=0.01, noise=noise)
    assert risk.kappa == pytest.approx(kappa, rel=1e-6) and risk.gamma == pytest.approx(gamma, rel=1e-6)
    assert risk.test == pytest.approx(test, rel=1e-5)
    assert train is None or risk.train == pytest.approx(train, rel=1e-5)


@pytest.mark.parametrize(("n", "k", "ridge", "noise"), [(60, 120, 0.05, 0.1), (120, 60, 0.05, 0.0), (100, 100, 1.0, 0.5)])
def test_predicts_simulated_risk(n, k, ridge, noise):
    random = np.random.default_rng(n + k)
    target = np.sqrt(SPECTRUM)
    test, train = [], []
    for _ in range(30):
        functions, weights = random.standard_normal((n, 200)), random.standard_normal((200, k)) / np.sqrt(k)
        map_of = np.sqrt(SPECTRUM)[:, None] * weights
        features = functions @ map_of
        y = functions @ target + np.sqrt(noise) * random.standard_normal(n)
        w = sketch.lstsq(features, y, ridge=ridge).x
        test.append(np.sum((target - map_of @ w) ** 2) + noise)
        train.append(np.mean((y - features @ w) ** 2))
    risk = sketch.random_feature_risk(SPECTRUM, target, samples=n, features=k, ridge=ridge, noise=noise)
    for simulated, predicted in ((test, risk.test), (train, risk.train)):
        assert abs(np.mean(simulated) / predicted - 1) < 0.05 + 4 * np.std(simulated) / np.mean(simulated) / np.sqrt(30)


def test_more_is_better_with_the_best_ridge():
    def best(n, k):
        return min(
            sketch.random_feature_risk(SPECTRUM, np.sqrt(SPECTRUM), samples=n, features=k, ridge=r, noise=0.1).test
            for r in np.geomspace(1e-4, 10, 16)
        )

    for n in (20, 80):
        assert best(n, 20) > best(n, 50) > best(n, 200) > best(n, np.inf)
        assert best(n, 50) > best(2 * n, 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eigenvalues": [1.0, 0.0]}, "expected positive eigenvalues, all finite"),
        ({"coefficients": [1.0]}, r"coefficients has shape \(1,\); expected \(2,\)"),
        ({"samples": 0}, "samples is 0; expected 1 or more"),
        ({"ridge": 0}, "expected a ridge above 0 and features of 1 or more"),
        ({"features": 0.5}, "expected a ridge above 0 and features of 1 or more"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, message):
    given = {"eigenvalues": [1.0, 0.5], "coefficients": [1.0, 1.0], "samples": 5, "features": 5, "ridge": 1.0, **change}
    with pytest.raises(ValueError, match="random_feature_risk: .*" + message):
        sketch.random_feature_risk(given.pop("eigenvalues"), given.pop("coefficients"), **given)
