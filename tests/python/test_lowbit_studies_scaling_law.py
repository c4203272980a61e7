# Contract: the law of arXiv 2501.02423 as printed, its table of best splits, its critical data sizes and its range of best precisions; closed
# forms of optima are held against numerical minimisation of the law itself; a fit finds constants that made the losses.
# Oracle: the paper's printed figures, mpmath for the formula, SciPy's scalar minimisation for the optima.
from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
from scipy import optimize

from slipstick.lowbit.studies import CHANNEL_WISE_BLOCK_SIZE, ScalingLaw, fit_scaling_law

LAW = ScalingLaw()

# The paper's figure of best layouts, bits: (exponent bits, mantissa bits).
PAPER_SPLITS = {
    1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (2, 1), 5: (2, 2), 6: (3, 2), 7: (3, 3), 8: (4, 3),
    9: (4, 4), 10: (5, 4), 11: (5, 5), 12: (6, 5), 13: (6, 6), 14: (7, 6), 15: (7, 7), 16: (8, 7),
}  # fmt: skip


def exact_loss(parameters, tokens, exponent, mantissa, block_size):
    with mpmath.workdps(40):
        size, data = mpmath.mpf(parameters), mpmath.mpf(tokens)
        n, alpha, d, beta = map(mpmath.mpf, ("69.2343", "0.2368", "68973.0621", "0.5162"))
        irreducible, gamma, delta, nu = map(mpmath.mpf, ("1.9061", "11334.5197", "3.1926", "2.9543"))
        capacity = gamma * (exponent + mpmath.mpf(0.5)) ** delta * (mantissa + mpmath.mpf(0.5)) ** nu
        return n / size**alpha + d / data**beta + irreducible + data**beta / size**alpha * mpmath.log(block_size, 2) / capacity


def test_loss_is_the_printed_formula():
    cases = list(itertools.product([4.1e7, 1.2e9, 7e10], [1e10, 1e14], [0, 1, 4, 8], [0, 3, 7], [1, 32, 128, 4096]))
    losses = LAW.loss(*np.array(cases).T[:4], np.array(cases).T[4])
    for case, loss in zip(cases, losses):
        assert abs(loss - exact_loss(*case)) <= 1e-12 * loss, case


def test_best_splits_are_those_of_the_papers_figure():
    assert {bits: LAW.best_split(bits) for bits in range(1, 17)} == PAPER_SPLITS


def test_critical_data_sizes_are_those_the_paper_prints():
    trillions = [LAW.critical_data_size(1e9, *split) / 1e12 for split in ((8, 7), (4, 3), (2, 1))]
    assert [round(trillions[0] / 10) * 10, round(trillions[1]), round(trillions[2], 1)] == [1730, 27, 0.4]  # BF16, E4M3, E2M1
    assert trillions == pytest.approx([1729.5, 27.3, 0.393], rel=2e-3)


def test_loss_is_smallest_at_the_critical_data_size():
    for size, split, block in itertools.product([1e8, 1e9, 7e10], [(2, 1), (4, 3), (5, 2)], [16, 128, CHANNEL_WISE_BLOCK_SIZE]):
        found = optimize.minimize_scalar(
            lambda t, s=size, p=split, b=block: LAW.loss(s, np.exp(t), *p, b), bounds=(15, 50), method="bounded"
        )
        assert np.log(LAW.critical_data_size(size, *split, block)) == pytest.approx(found.x, abs=1e-3)


def test_without_blocks_there_is_no_penalty_and_no_critical_size():
    assert LAW.quantization_penalty(1e9, 1e12, 2, 1, block_size=1) == 0
    assert LAW.critical_data_size(1e9, 2, 1, block_size=1) == np.inf


def test_channel_wise_scales_count_as_the_block_size_of_the_paper():
    assert np.log2(CHANNEL_WISE_BLOCK_SIZE) == pytest.approx(13.1567, rel=1e-12)


def test_real_split_is_where_the_penalty_is_smallest():
    for bits in (2, 4.5, 8, 16):
        found = optimize.minimize_scalar(
            lambda e, b=bits: LAW.quantization_penalty(1e9, 1e12, e, b - 1 - e), bounds=(0, bits - 1), method="bounded"
        )
        exponent, mantissa = LAW.real_split(bits)
        assert exponent == pytest.approx(found.x, abs=1e-4)
        assert exponent + mantissa + 1 == pytest.approx(bits)


def loss_at(parameters, tokens, bits):
    return LAW.loss(parameters, tokens, *LAW.real_split(bits))


@pytest.mark.parametrize(("tokens", "operations"), [(1e10, 1e20), (1e12, 1e22), (2e13, 1e27)])
def test_best_precision_for_given_tokens_minimises_the_loss_whatever_the_cost(tokens, operations):
    found = optimize.minimize_scalar(lambda p: loss_at(operations / (6 / 16 * tokens * p), tokens, p), bounds=(1.1, 30), method="bounded")
    assert LAW.optimal_bits(tokens=tokens) == pytest.approx(found.x, abs=1e-3)


@pytest.mark.parametrize(("parameters", "operations"), [(1e9, 1e21), (1e9, 1e23), (7e10, 1e25)])
def test_best_precision_for_given_parameters_and_cost_minimises_the_loss(parameters, operations):
    found = optimize.minimize_scalar(
        lambda p: loss_at(parameters, operations / (6 / 16 * parameters * p), p), bounds=(1.1, 40), method="bounded"
    )
    assert LAW.optimal_bits(parameters=parameters, operations=operations) == pytest.approx(found.x, abs=1e-3)


def test_best_precision_lies_between_4_and_8_bits_for_all_budgets_of_the_paper():
    bits = [LAW.compute_optimal(10.0**power, block_size=128).bits for power in range(21, 32)]
    assert bits == sorted(bits)
    assert 4 <= bits[0] and bits[-1] <= 8


@pytest.mark.parametrize("operations", [1e21, 1e25, 1e31])
def test_compute_optimum_spends_the_budget_and_has_no_better_neighbour(operations):
    best = LAW.compute_optimal(operations)
    assert 6 / 16 * best.parameters * best.tokens * best.bits == pytest.approx(operations, rel=1e-12)
    assert best.loss == pytest.approx(loss_at(best.parameters, best.tokens, best.bits), rel=1e-14)

    def at(logs):
        tokens, bits = np.exp(logs)
        return loss_at(operations / (6 / 16 * tokens * bits), tokens, bits)

    found = optimize.minimize(
        at, np.log([best.tokens * 1.5, best.bits * 0.8]), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15}
    )
    assert np.exp(found.x) == pytest.approx([best.tokens, best.bits], rel=1e-4)


RUNS = np.array(list(itertools.product([4.1e7, 1.6e8, 6.8e8], [1e10, 5e10, 1e11], [1, 3, 5], [1, 4])), float)


@pytest.mark.parametrize("truth", [LAW, ScalingLaw(n=150, alpha=0.33, d=3000, beta=0.4, irreducible=1.7, gamma=5000, delta=2.2, nu=3.6)])
def test_fit_finds_the_constants_behind_noiseless_losses(truth):
    blocks = np.tile([32.0, 128.0], len(RUNS) // 2)
    found = fit_scaling_law(*RUNS.T, truth.loss(*RUNS.T, blocks), block_size=blocks)
    assert found.mean_absolute_error < 1e-9
    for name in ("n", "alpha", "d", "beta", "irreducible", "gamma", "delta", "nu"):
        assert getattr(found.law, name) == pytest.approx(getattr(truth, name), rel=1e-4), name


def test_fit_is_not_drawn_away_by_one_bad_run():
    losses = LAW.loss(*RUNS.T)
    spoiled = losses.copy()
    spoiled[7] *= 1.3
    found = fit_scaling_law(*RUNS.T, spoiled)
    others = np.arange(len(losses)) != 7
    assert np.abs(found.law.loss(*RUNS.T) - losses)[others].max() < 2e-3
