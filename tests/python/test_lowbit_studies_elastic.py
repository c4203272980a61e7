# Contract: moments and losses of EQ-Net are those of its released code, on arrays. Oracle: loops over the definitions, SciPy's moments.
# test_lowbit_studies_torch.py holds tensors against arrays.
from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from slipstick.lowbit.studies import UNIFORM_KURTOSIS, guidance_losses, skewness_and_kurtosis, weight_distribution_loss


@pytest.mark.parametrize("shape", [(2,), (5,), (40, 7), (3, 4, 2, 2)])
def test_moments_are_those_of_scipy_with_the_deviation_of_samples(shape):
    weights = np.random.default_rng(0).gamma(2.0, size=shape)
    n = weights.size
    skewness, kurtosis = skewness_and_kurtosis(weights)
    assert skewness == pytest.approx(stats.skew(weights, axis=None) * ((n - 1) / n) ** 1.5, rel=1e-12, abs=1e-13)
    assert kurtosis == pytest.approx(stats.kurtosis(weights, axis=None, fisher=False) * ((n - 1) / n) ** 2, rel=1e-12)


def test_moments_do_not_depend_on_place_and_scale():
    weights = np.random.default_rng(1).normal(size=100)
    assert skewness_and_kurtosis(weights * 3 + 5) == pytest.approx(skewness_and_kurtosis(weights), rel=1e-11)
    assert skewness_and_kurtosis(-weights)[0] == pytest.approx(-skewness_and_kurtosis(weights)[0], rel=1e-12)


def test_uniform_weights_have_no_distribution_loss_and_others_have():
    uniform = np.linspace(-2, 2, 100_001)
    assert weight_distribution_loss([uniform, uniform]) == pytest.approx(0, abs=1e-8)
    normal = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    assert weight_distribution_loss([uniform, normal]) == pytest.approx(0.015 * (3 - UNIFORM_KURTOSIS) ** 2, rel=1e-2)


def test_distribution_loss_is_the_weighted_mean_over_all_layers_but_the_first():
    random = np.random.default_rng(2)
    layers = [random.gamma(k + 1.0, size=50) for k in range(4)]
    moments = [skewness_and_kurtosis(layer) for layer in layers]
    mean = np.mean([s**2 + 0.015 * (k - 1.8) ** 2 for s, k in moments[1:]])
    assert weight_distribution_loss(layers) == pytest.approx(mean, rel=1e-13)
    paper = np.mean([s**2 + (k - 1.8) ** 2 for s, k in moments])
    assert weight_distribution_loss(layers, kurtosis_weight=1, skip_first=False) == pytest.approx(paper, rel=1e-13)


def test_equal_weights_have_no_moments():
    assert all(map(math.isnan, skewness_and_kurtosis(np.ones(9))))
    assert all(map(math.isnan, skewness_and_kurtosis([0.0, np.nan, 1.0])))


def test_guidance_losses_are_those_of_the_definition():
    random = np.random.default_rng(3)
    logits = random.normal(size=(3, 6, 5)) * 2
    targets = random.integers(0, 5, 6)
    log_p = special.log_softmax(logits, axis=2)
    entropy = -log_p[:, np.arange(6), targets].mean(axis=1)

    def divergence(guide, this):
        return (np.exp(log_p[guide]) * (log_p[guide] - log_p[this])).sum(axis=1).mean()

    for share in (0.0, 0.5, 0.8, 1.0):
        found = guidance_losses(*logits, targets, guidance=share)
        expected = (
            entropy[0],
            share * divergence(0, 1) + (1 - share) * entropy[1],
            share * divergence(1, 2) + (1 - share) * entropy[2],
        )
        assert found == pytest.approx(expected, rel=1e-12)


def test_large_logits_do_not_overflow():
    found = guidance_losses([[1e4, 0.0]], [[-1e4, 0.0]], [[0.0, 1e4]], [0])
    assert found == pytest.approx((0.0, 1e4, 5e3), rel=1e-12)
