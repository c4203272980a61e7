# Contract: the space utilization is the ratio of two volumes; whitening and equalizing transforms are what they say and have the highest rate of
# their kind; power quantizers keep to their definition and the exponent search finds the valley of the error.
# Oracles: volumes by sampling, SciPy's chi-squared law, a loop over the definition, a fine grid.
from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from slipstick.lowbit.studies import (
    equalizing_rotation,
    hadamard,
    log_space_utilization,
    power_dequantize,
    power_quantize,
    reconstruction_error,
    search_exponent,
    space_utilization,
    whitening_transform,
)


def covariances(seed=0):
    random = np.random.default_rng(seed)
    for d in (1, 2, 3, 5, 8, 24):
        factor = random.normal(size=(d, d)) * np.exp(random.normal(size=d) * 2)
        yield factor @ factor.T / d


def random_rotation(d, random):
    return np.linalg.qr(random.normal(size=(d, d)))[0]


def test_rate_is_the_share_of_the_cube_that_the_ellipsoid_fills():
    random = np.random.default_rng(1)
    for covariance in list(covariances(2))[:3]:
        d = len(covariance)
        mean = random.normal(size=d)
        c = stats.chi2.ppf(0.95, d)
        high, low = mean + np.sqrt(c * np.diagonal(covariance)), mean - np.sqrt(c * np.diagonal(covariance))
        points = random.uniform(low.min(), high.max(), size=(400_000, d)) - mean
        inside = np.einsum("ij,jk,ik->i", points, np.linalg.inv(covariance), points) <= c
        rate = space_utilization(covariance, mean=mean, alpha=0.95)
        assert abs(inside.mean() - rate) < 5 * math.sqrt(rate / 400_000) + 1e-9


def test_rate_of_a_ball_is_the_volume_of_the_unit_ball_over_two_to_the_d():
    for d in (1, 2, 3, 10, 400):
        expected = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1) - d * math.log(2)
        assert log_space_utilization(np.eye(d) * 7, alpha=0.5) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_exact_box_touches_the_ellipsoid_and_the_papers_box_lies_within_it():
    random = np.random.default_rng(3)
    for covariance in covariances():
        d = len(covariance)
        mean = random.normal(size=d)
        directions = random.normal(size=(4000, d))
        surface = mean + directions / np.linalg.norm(directions, axis=1, keepdims=True) @ np.linalg.cholesky(covariance).T * math.sqrt(
            stats.chi2.ppf(0.99, d)
        )
        rate = log_space_utilization(covariance, mean=mean)
        volume = d / 2 * math.log(math.pi * stats.chi2.ppf(0.99, d)) - math.lgamma(d / 2 + 1) + np.linalg.slogdet(covariance)[1] / 2
        side = math.exp((volume - rate) / d)
        assert np.ptp(surface) <= side * (1 + 1e-12)
        assert log_space_utilization(covariance, mean=mean, box="paper") >= rate - 1e-12


def test_papers_box_is_the_range_of_the_ends_of_the_principal_axes():
    covariance, c = np.array([[2.0, 1.0], [1.0, 2.0]]), stats.chi2.ppf(0.99, 2)
    side = 2 * math.sqrt(3 * c) / math.sqrt(2)  # the long axis: variance 3 along (1, 1) / sqrt(2)
    area = math.pi * c * math.sqrt(3)
    assert space_utilization(covariance, box="paper") == pytest.approx(area / side**2, rel=1e-12)
    assert space_utilization(covariance, box="exact") == pytest.approx(area / (2 * math.sqrt(2 * c)) ** 2, rel=1e-12)


def test_no_linear_transform_has_a_higher_rate_than_whitening_and_no_rotation_than_equalizing():
    random = np.random.default_rng(4)
    for covariance in covariances():
        d = len(covariance)
        orthogonal, scales = whitening_transform(covariance)
        whitened = (orthogonal * scales).T @ covariance @ (orthogonal * scales)
        rotation = equalizing_rotation(covariance)
        equalized = rotation.T @ covariance @ rotation
        best, best_rotated = log_space_utilization(whitened), log_space_utilization(equalized)
        assert best_rotated <= best + 1e-9
        for _ in range(20):
            other = random_rotation(d, random)
            assert log_space_utilization(other.T @ covariance @ other) <= best_rotated + 1e-9
            other = other * np.exp(random.normal(size=d))
            assert log_space_utilization(other.T @ covariance @ other) <= best + 1e-9


def test_whitening_gives_the_identity_and_its_inverse_leaves_the_product():
    random = np.random.default_rng(5)
    for covariance in covariances():
        d = len(covariance)
        orthogonal, scales = whitening_transform(covariance)
        transform, inverse = orthogonal * scales, (orthogonal / scales).T
        assert np.abs(orthogonal.T @ orthogonal - np.eye(d)).max() < 1e-13
        assert np.abs(transform.T @ covariance @ transform - np.eye(d)).max() < 1e-6
        x, weight = random.normal(size=(3, d)), random.normal(size=(d, 2))
        assert (x @ transform) @ (inverse @ weight) == pytest.approx(x @ weight, rel=1e-9, abs=1e-9)


def test_equalizing_rotation_is_orthogonal_and_makes_the_diagonal_constant():
    cases = [*covariances(), np.zeros((3, 3)), np.eye(4), np.diag([1.0, 0, 0, 0, 0, 0, 0]), np.diag([1e12, 1, 1e-12])]
    for covariance in cases:
        rotation = equalizing_rotation(covariance)
        d = len(covariance)
        assert np.abs(rotation.T @ rotation - np.eye(d)).max() < 1e-13
        diagonal = np.diagonal(rotation.T @ covariance @ rotation)
        assert np.abs(diagonal - np.trace(covariance) / d).max() <= 1e-14 * d * max(np.abs(covariance).max(), 1e-300)


def test_hadamard_matrix_is_orthogonal_and_flat_and_equalizes_from_the_eigenvectors():
    for size in (1, 2, 8, 64):
        matrix = hadamard(size)
        assert np.abs(matrix @ matrix.T - np.eye(size)).max() < 1e-14
        assert np.abs(np.abs(matrix) - 1 / math.sqrt(size)).max() < 1e-16
    covariance = list(covariances())[4]
    rotation = np.linalg.eigh(covariance)[1] @ hadamard(8)
    assert np.diagonal(rotation.T @ covariance @ rotation) == pytest.approx(np.trace(covariance) / 8, rel=1e-12)


def test_singular_covariance_fills_nothing():
    assert log_space_utilization(np.diag([1.0, 0.0])) == -math.inf
    assert space_utilization(np.ones((3, 3))) == 0


def quantized_by_definition(weight, exponent, levels, maximum):
    code = round(levels * (abs(weight) / maximum) ** exponent) * (1 if weight > 0 else -1) if maximum else 0
    return code, math.copysign(maximum * (abs(code) / levels) ** (1 / exponent), code)


@pytest.mark.parametrize(("exponent", "bits"), [(1.0, 2), (0.55, 4), (0.3, 8), (1.4, 5)])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_power_quantizer_is_its_definition(exponent, bits, axis):
    weights = np.random.default_rng(0).standard_t(3, size=(4, 7))
    weights[0, 0] = 0
    weights[2] = 0
    codes, maxima = power_quantize(weights, exponent, bits, axis=axis)
    values = power_dequantize(codes, maxima, exponent, bits)
    for i, j in np.ndindex(4, 7):
        maximum = np.abs(weights if axis is None else weights[i] if axis == 0 else weights[:, j]).max()
        code, value = quantized_by_definition(weights[i, j], exponent, 2 ** (bits - 1) - 1, maximum)
        assert codes[i, j] == code
        assert values[i, j] == pytest.approx(value, rel=1e-14, abs=0)


def test_power_quantization_keeps_products():
    """The reason for powers: the code of a product is the product of the codes, before rounding; exactly so for codes of exact powers."""
    exponent = 0.5
    codes, _ = power_quantize([1.0, 0.25, 0.0625], exponent, 5)
    levels = 15
    assert codes[1] * codes[1] / levels == pytest.approx(codes[2], abs=0.5)


def test_uniform_exponent_is_the_symmetric_integer_quantizer():
    weights = np.random.default_rng(1).normal(size=1000)
    codes, maximum = power_quantize(weights, 1.0, 8)
    assert (codes == np.rint(weights / maximum * 127)).all()


def test_search_is_as_good_as_a_fine_grid_and_never_worse_than_uniform():
    random = np.random.default_rng(2)
    layers = [random.laplace(size=(30, 20)), random.normal(size=500), random.standard_t(4, size=400)]
    found = search_exponent(layers, 4)
    grid = np.linspace(0.1, 1.5, 281)
    errors = [reconstruction_error(layers, exponent, 4) for exponent in grid]
    assert found.error <= min(errors) * 1.005  # rounding makes the error jump: the two need not meet in the same dip
    assert found.error <= found.uniform_error
    assert found.error == reconstruction_error(layers, found.exponent, 4)
    assert dict(found.tried)[1.0] == found.uniform_error
    assert 0.4 < found.exponent < 0.8  # about 0.55 for weights of networks, the paper says


def test_one_array_and_a_list_of_one_are_the_same():
    weights = np.random.default_rng(3).normal(size=300)
    assert search_exponent(weights, 4) == search_exponent([weights], 4)
    assert reconstruction_error([weights, weights], 0.5, 4) == pytest.approx(2 * reconstruction_error(weights, 0.5, 4))


def test_weights_of_zero_have_no_error():
    assert reconstruction_error(np.zeros(5), 0.5, 4) == 0
    assert search_exponent(np.zeros(5), 4).error == 0
