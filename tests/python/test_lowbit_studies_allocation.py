# Contract: bits of equal loss meet the budget and the bounds and nothing is better; whole bits are an exact optimum; the evolutionary search
# keeps its budget, never gets worse, repeats itself for a seed, and finds the optimum of small problems.
# Oracle: all allocations of small problems, optimality conditions of large ones, the check values of BAQ's code.
from __future__ import annotations

import itertools

import numpy as np
import pytest

from slipstick.lowbit.studies import (
    PAPER_STAGES,
    allocation_loss,
    column_coefficients,
    equal_loss_bits,
    evolutionary_search,
    integer_bits,
    kl_divergence,
    measured_bits,
    released_levels,
)


def test_check_values_of_both_exponents():
    assert equal_loss_bits([1, 4, 16, 0.25], 3) == pytest.approx([2.5, 3.5, 4.5, 1.5], abs=1e-14)
    assert equal_loss_bits([1, 4, 16, 0.25], 3, exponent=1.95) == pytest.approx([2.487179, 3.512821, 4.538462, 1.461538], abs=5e-7)


def problems(count, seed=0):
    """Coefficients from equal through ties to very unequal, some 0; bounds and budgets of every kind."""
    random = np.random.default_rng(seed)
    for case in range(count):
        columns = int(random.integers(1, 5))
        spread = random.choice([0.0, 0.5, 3.0, 10.0])
        c = 2.0 ** random.integers(-4, 5, columns) if case % 3 == 0 else np.exp(random.normal(0, spread, columns))
        if case % 7 == 0:
            c[random.integers(columns)] = 0
        minimum = int(random.integers(0, 2))
        maximum = None if case % 2 else minimum + int(random.integers(1, 5))
        highest = 6 if maximum is None else maximum
        total = int(random.integers(columns * minimum, columns * highest + 1))
        yield c, total, minimum, maximum, 2.0 if case % 4 < 2 else 1.95


@pytest.mark.parametrize("seed", range(3))
def test_whole_bits_lose_no_more_than_any_other_allocation(seed):
    for c, total, minimum, maximum, exponent in problems(100, seed):
        bits = integer_bits(c, total, exponent=exponent, minimum=minimum, maximum=maximum)
        top = total - minimum * (c.size - 1) if maximum is None else maximum
        every = np.array([r for r in itertools.product(range(minimum, top + 1), repeat=c.size) if sum(r) == total])
        best = (c * np.exp2(-exponent * every)).sum(axis=1).min()
        assert bits.sum() == total
        assert bits.min() >= minimum
        assert bits.max() <= top
        assert allocation_loss(c, bits, exponent=exponent) <= best * (1 + 1e-13), (c, total, minimum, maximum)


def test_equal_loss_bits_meet_the_optimality_conditions():
    for c, total, minimum, maximum, exponent in problems(400, seed=9):
        top = np.inf if maximum is None else maximum
        bits = equal_loss_bits(c, total / c.size, exponent=exponent, minimum=minimum, maximum=maximum)
        assert bits.sum() == pytest.approx(total, rel=1e-13, abs=1e-13)
        assert bits.min() >= minimum
        assert bits.max() <= top
        losses = c * np.exp2(-exponent * bits)
        inner = (bits > minimum + 1e-9) & (bits < top - 1e-9) & (c > 0)
        if inner.any():  # equal losses inside; no larger one at the minimum, no smaller one at the maximum
            level = losses[inner].max()
            assert losses[inner] == pytest.approx(level, rel=1e-11)
            assert (losses[bits <= minimum + 1e-9] <= level * (1 + 1e-11)).all()
            assert (losses[bits >= top - 1e-9] >= level * (1 - 1e-11)).all()
        whole = integer_bits(c, total, exponent=exponent, minimum=minimum, maximum=maximum)
        assert allocation_loss(c, bits, exponent=exponent) <= allocation_loss(c, whole, exponent=exponent) * (1 + 1e-12)


def test_whole_bits_of_many_columns_meet_the_exchange_condition():
    random = np.random.default_rng(4)
    for exponent, maximum in ((2.0, 8), (1.95, None), (0.3, 6)):
        c = np.exp(random.normal(0, 3, 50_000))
        bits = integer_bits(c, 3 * c.size, exponent=exponent, maximum=maximum)
        assert bits.sum() == 3 * c.size
        saved_by_last = c * (np.exp2(-exponent * (bits - 1)) - np.exp2(-exponent * bits))
        saved_by_next = c * (np.exp2(-exponent * bits) - np.exp2(-exponent * (bits + 1)))
        can_rise = np.ones(c.size, bool) if maximum is None else bits < maximum
        assert saved_by_next[can_rise].max() <= saved_by_last[bits > 0].min() * (1 + 1e-12)


def test_order_and_scale_of_coefficients_do_not_matter():
    c = np.exp(np.random.default_rng(1).normal(0, 2, 50))
    bits = integer_bits(c, 140)
    assert (integer_bits(c[::-1], 140)[::-1] == bits).all()
    assert (integer_bits(c * 1024, 140) == bits).all()
    assert equal_loss_bits(c * 1024, 3) == pytest.approx(equal_loss_bits(c, 3), abs=1e-12)


def test_columns_without_loss_get_bits_last():
    assert (integer_bits([0.0, 1e-300, 1.0], 4) == [0, 0, 4]).all()
    assert (integer_bits([0.0, 1.0], 5, maximum=4) == [1, 4]).all()
    assert equal_loss_bits([0.0, 1.0], 2.5, maximum=4) == pytest.approx([1, 4])
    assert equal_loss_bits([0.0, 0.0], 2.5) == pytest.approx([2.5, 2.5])


def test_coefficients_are_the_loss_of_uniform_noise():
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 3, 200_000)
    bits = 5
    step = 4 / 2**bits
    error = np.mean((weights - (np.floor(weights / step) + 0.5) * step) ** 2)
    assert allocation_loss(column_coefficients([4.0], [1.0]), [bits]) == pytest.approx(error, rel=0.01)


def test_released_levels_are_those_of_the_code():
    losses = np.array([1, 4, 16, 0.25])
    exact = 2 ** equal_loss_bits(losses, 3, exponent=1.95)
    assert (released_levels(losses, 3) == np.round(exact)).all()
    assert (released_levels([1e-9, 1.0], 1) >= 1).all()


def tables(layers, highest, random):
    """Losses by level that fall ever more slowly: what whole bits do to a layer."""
    steps = -np.sort(-random.random((layers, highest)), axis=1)
    return np.concatenate([steps.sum(axis=1, keepdims=True), steps.sum(axis=1, keepdims=True) - np.cumsum(steps, axis=1)], axis=1)


def test_bits_by_measured_losses_lose_no_more_than_any_other_allocation():
    random = np.random.default_rng(11)
    for _ in range(60):
        columns, highest = int(random.integers(1, 5)), int(random.integers(0, 5))
        losses = tables(columns, highest, random)
        losses = np.round(losses * 4) / 4 if random.random() < 0.3 else losses  # ties, where rounding leaves the rows convex
        if (np.diff(losses, 2, axis=1) < 0).any():
            continue
        total = int(random.integers(0, columns * highest + 1))
        bits = measured_bits(losses, total)
        every = np.array([r for r in itertools.product(range(highest + 1), repeat=columns) if sum(r) == total])
        assert bits.sum() == total
        assert bits.max(initial=0) <= highest
        assert losses[np.arange(columns), bits].sum() <= losses[np.arange(columns), every].sum(axis=1).min() + 1e-12


def test_losses_that_are_convex_but_for_rounding_are_taken():
    losses = 0.7 - 0.1 * np.arange(5)[None]
    assert (np.diff(losses, 2) < 0).any()
    assert (measured_bits(losses, 3) == [3]).all()


def test_measured_losses_that_follow_the_formula_give_the_bits_of_the_formula():
    c = np.exp(np.random.default_rng(12).normal(0, 2, 40))
    assert (measured_bits(c[:, None] * 4.0 ** -np.arange(12), 130) == integer_bits(c, 130)).all()


@pytest.mark.parametrize("seed", range(6))
def test_search_finds_the_best_allocation_of_layers_of_equal_size(seed):
    table = tables(5, 5, np.random.default_rng(seed))
    places = np.arange(5)
    found = evolutionary_search(
        lambda v: float(table[places, v].sum()), layers=5, target=3, minimum=1, maximum=5, generations=12, offspring=16, seed=seed
    )
    every = np.array([v for v in itertools.product(range(1, 6), repeat=5) if sum(v) == 15])
    assert found.fitness == pytest.approx(table[places, every].sum(axis=1).min(), rel=1e-12)
    assert found.total == 15
    assert (np.diff(found.history) <= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_search_over_unequal_sizes_keeps_the_budget_and_finds_the_best(seed):
    random = np.random.default_rng(seed)
    table, sizes, places = tables(4, 4, random), random.integers(1, 4, 4), np.arange(4)
    budget = int(2.6 * sizes.sum() + 1e-9)
    every = np.array(list(itertools.product(range(1, 5), repeat=4)))
    every = every[every @ sizes <= budget]
    runs = [
        evolutionary_search(
            lambda v: float(table[places, v].sum()),
            sizes=sizes, target=2.6, minimum=1, maximum=4, grouped=False, generations=16, offspring=16, initial=8, seed=start,
        )
        for start in range(2)
    ]  # fmt: skip
    assert all(run.total == sizes @ run.levels <= budget for run in runs)
    assert all((np.diff(run.history) <= 0).all() for run in runs)
    assert min(run.fitness for run in runs) == pytest.approx(table[places, every].sum(axis=1).min(), rel=1e-12)


def test_search_finds_layers_that_only_pay_off_together():
    def fitness(levels):  # raising only one of layers 1 and 2 makes it worse
        return float(((levels - 3) ** 2).sum() - 40 * (levels[1] > 3) * (levels[2] > 3))

    found = evolutionary_search(fitness, layers=6, target=3, minimum=1, maximum=5, generations=10, offspring=32, seed=0)
    assert (found.levels[1:3] == 4).all()
    assert found.fitness == -36


def test_groups_of_equal_size_each_keep_their_total():
    sizes = np.array([10, 10, 10, 3, 3])
    found = evolutionary_search(
        lambda v: float(-v[0] - v[4]), sizes=sizes, target=4, minimum=2, maximum=6, generations=10, offspring=16, seed=2
    )
    assert found.levels[:3].sum() == 12
    assert found.levels[3:].sum() == 8
    assert (found.levels[0], found.levels[4]) == (6, 6)


def test_candidates_over_unequal_sizes_change_little_and_give_back_what_they_take():
    sizes = np.array([1, 1, 2, 3, 10, 12])
    seen = []
    evolutionary_search(
        lambda v: seen.append(v) or 0.0,  # the parent stays on ties, so all candidates are neighbours of the first
        sizes=sizes, target=4, minimum=1, maximum=8, grouped=False, generations=30, offspring=16,
    )  # fmt: skip
    change = np.array(seen) - 4
    added, removed = np.maximum(change, 0) @ sizes, np.maximum(-change, 0) @ sizes
    assert len(seen) > 100
    assert (np.abs(change).sum(axis=1) <= 10).all()
    assert (added <= removed).all()
    assert (added >= 0.8 * removed).all()
    assert (added < 0.99 * removed).any()


def test_a_seed_gives_the_same_search_twice_and_another_seed_another():
    calls = []

    def fitness(levels):
        calls.append(levels.tobytes())
        return float((levels * [1, 5, 2, 8, 3, 9]).sum())

    def trace(seed):
        calls.clear()
        found = evolutionary_search(fitness, layers=6, target=3, minimum=1, maximum=5, generations=4, offspring=8, seed=seed)
        assert found.evaluations == len(calls)
        assert len(set(calls)) == len(calls)  # nothing is measured twice
        return list(calls)

    assert trace(3) == trace(3)
    assert trace(3) != trace(4)


def test_stages_measure_fewer_candidates_on_more_tokens_and_compare_on_equal_draws():
    calls = []

    def fitness(levels, tokens, seed):
        calls.append((tokens, seed))
        return float((levels * np.arange(8)).sum())

    evolutionary_search(fitness, layers=8, target=3, minimum=1, maximum=5, generations=3, offspring=24, stages=PAPER_STAGES, seed=0)
    counts = [(tokens, len(list(group))) for (tokens, _), group in itertools.groupby(calls)]
    assert counts == [(2048, 24), (16384, 16), (131072, 5)] * 3  # the parent joins the last stage
    assert len(set(calls)) == 9  # a draw a stage and generation


def test_a_candidate_without_a_number_is_the_worst():
    found = evolutionary_search(
        lambda v: float("nan") if v[0] > 3 else float(-v[0]), layers=4, target=3, minimum=1, maximum=5, generations=4, offspring=8
    )
    assert found.fitness == -3


def test_fractional_target_and_single_allocation():
    found = evolutionary_search(lambda v: 0.0, layers=4, target=2.5, minimum=2, maximum=4, generations=2, offspring=4)
    assert found.total == 10
    found = evolutionary_search(lambda v: 1.0, layers=3, target=2, minimum=2, maximum=2, generations=2, offspring=4)
    assert (found.levels == 2).all()
    assert found.evaluations == 1
    found = evolutionary_search(
        lambda v, tokens, seed: 1.0, layers=3, target=2, minimum=2, maximum=2, generations=2, offspring=4, stages=[(2, 1), (1, 9)]
    )
    assert (found.levels == 2).all()


SEARCH = {"layers": 4, "target": 3, "minimum": 2, "maximum": 4}


@pytest.mark.parametrize(("change", "message"), [
    ({"sizes": [1, 2]}, "evolutionary_search: got both of layers and sizes; expected one of them"),
    ({"layers": None}, "evolutionary_search: got neither of layers and sizes; expected one of them"),
    ({"target": 1.5}, "evolutionary_search: target is 1.5, a budget of 6; expected at least 8, all layers at minimum"),
    ({"minimum": 5}, "evolutionary_search: minimum exceeds maximum in layer 0; expected minimum <= maximum"),
    ({"maximum": [4, 4]}, "evolutionary_search: maximum has shape (2,); expected one number or (4,)"),
    ({"stages": [(2, 10)]}, "evolutionary_search: stages is [(2, 10)]; expected a last stage with 1 survivor"),
    ({"stages": [3]}, "evolutionary_search: stages holds 3; expected pairs of survivors and tokens"),
    ({"generations": 0}, "evolutionary_search: generations is 0; expected a whole number of at least 1"),
])  # fmt: skip
def test_search_refuses_bad_arguments(change, message):
    with pytest.raises(ValueError) as error:
        evolutionary_search(lambda v: 0.0, **{**SEARCH, **change})
    assert str(error.value).startswith(message)


def test_search_refuses_a_fitness_that_is_no_number():
    with pytest.raises(TypeError) as error:
        evolutionary_search(lambda v: "good", **SEARCH)
    assert str(error.value) == "evolutionary_search: fitness returned 'good'; expected a number"


def test_divergence_is_that_of_the_definition_and_renormalises_the_top():
    random = np.random.default_rng(2)
    base, other = random.normal(size=(4, 30)) * 3, random.normal(size=(4, 30)) * 3
    p = np.exp(base) / np.exp(base).sum(axis=1, keepdims=True)
    q = np.exp(other) / np.exp(other).sum(axis=1, keepdims=True)
    assert kl_divergence(base, other) == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-12)
    top = np.argsort(-base, axis=1)[:, :10]
    p, q = np.take_along_axis(p, top, 1), np.take_along_axis(q, top, 1)
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    assert kl_divergence(base, other, top=10) == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-12)
    assert kl_divergence(base, base + 7.0) == pytest.approx(0, abs=1e-15)
    assert kl_divergence(base, other, top=30) == pytest.approx(kl_divergence(base, other), rel=1e-12)
