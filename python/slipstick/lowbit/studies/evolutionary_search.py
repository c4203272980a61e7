"""Evolutionary search for one level of compression a layer under a budget, after EvoPress (Sieberling et al. 2024, arXiv 2410.14649).

An elitist (1 + lambda) search: the parent's offspring swap a few levels between layers, so that the budget holds, and go through stages of
selection that look at more and more calibration data. It needs nothing but a fitness, so levels may interact in any way.

>>> sensitivity = np.array([8.0, 1.0, 1.0, 4.0])
>>> found = evolutionary_search(lambda bits: float(sensitivity @ 4.0 ** -bits), layers=4, target=3, minimum=2, maximum=5, generations=10)
>>> found.levels, found.total
(array([4, 2, 2, 4]), 12)

`kl_divergence` is the paper's fitness. Pruning and dropping of layers, the paper's other uses, have other moves and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["PAPER_STAGES", "EvolutionarySearch", "evolutionary_search", "kl_divergence"]

PAPER_STAGES = ((16, 2048), (4, 16384), (1, 131072))
"""Stages of the released code for quantization: (survivors, calibration tokens)."""

Levels = NDArray[np.int64]


@dataclass(frozen=True)
class EvolutionarySearch:
    """What `evolutionary_search` finds.

    Attributes:
        levels: (layers,) int64, the best allocation.
        fitness: of these levels, as measured in the last generation.
        total: sum of size x level, at most the budget.
        history: (generations,) float64, fitness of the parent after each generation. It never rises when the fitness always gives the same
            value for the same levels; with calibration data drawn afresh it can.
        evaluations: calls of the fitness.
    """

    levels: Levels
    fitness: float
    total: int
    history: NDArray[np.float64] = field(repr=False)
    evaluations: int


def evolutionary_search(
    fitness: Callable[..., float],
    *,
    layers: int | None = None,
    sizes: ArrayLike | None = None,
    target: float,
    minimum: ArrayLike,
    maximum: ArrayLike,
    grouped: bool = True,
    generations: int = 150,
    offspring: int = 128,
    stages: Sequence[tuple[int, int]] | None = None,
    initial: int = 64,
    seed: int = 0,
) -> EvolutionarySearch:
    """Searches for the levels (say, bits) of layers that minimise a fitness while the sum of size x level stays within a budget.

    Args:
        fitness: called as fitness(levels) with an int64 array of (layers,) that it must not change; smaller is better. With stages it is
            called as fitness(levels, tokens=..., seed=...), where candidates to be compared get the same two. A value of NaN is the worst.
        layers: how many, where all have the same size.
        sizes: (layers,) positive whole numbers, say parameters a layer, where they differ.
        target: mean level; the budget is the largest sum within target x sum(sizes).
        minimum, maximum: bounds of the levels, one number or (layers,).
        grouped: True swaps levels only between layers of equal size, so that the total never changes. False raises some layers and lowers
            others until the budget holds, and drops candidates that changed more than 10 levels or gave back too much: less than 0.8 added
            for each bit removed.
        generations, offspring: at least 1; the defaults are those of the paper's code for quantization.
        stages: (survivors, tokens) each, the last with 1 survivor; `PAPER_STAGES` are the paper's. None compares all offspring once.
        initial: starts to choose from where target is no whole number; each has all layers at its ceiling and then random ones lowered.
        seed: of all random choices; at least 0.
    Returns:
        The best allocation of the last generation.
    Raises:
        TypeError, ValueError: an argument of another kind or out of range, or a budget below all layers at minimum.
    Notes:
        Calls fitness at most generations x (sum over stages of candidates and parent) + initial times; without stages, levels seen before
        are not measured again. Which levels are tried depends on seed and on NumPy's generator, so it may change with NumPy's version.
        A local search: nothing says that the optimum is found, though fitnesses that are sums over layers lead there.

    >>> def distance(levels):
    ...     return float(abs(levels - [2, 6, 4, 4]).sum())
    >>> found = evolutionary_search(distance, layers=4, target=4, minimum=2, maximum=6, generations=10, seed=1)
    >>> found.levels, found.history[-1]
    (array([2, 6, 4, 4]), np.float64(0.0))
    """
    where = "evolutionary_search"
    problem = _Problem(where, layers, sizes, target, minimum, maximum, grouped)
    generations = _checks.integer(where, "generations", generations, 1)
    offspring = _checks.integer(where, "offspring", offspring, 1)
    initial = _checks.integer(where, "initial", initial, 1)
    plan = _plan(where, stages)
    random = np.random.default_rng(_checks.integer(where, "seed", seed, 0))
    measure = _Measure(where, fitness, random)

    parent = problem.uniform()
    if parent is None:
        starts = [problem.random_start(random) for _ in range(initial)]
        parent = measure.best(starts, 1, plan[0][1])[0][0]
    history: list[float] = []
    for _ in range(generations):
        candidates = problem.offspring(parent, offspring, random)
        ranked: list[tuple[Levels, float]] = []
        for survivors, tokens in plan:
            if survivors == plan[-1][0]:
                candidates = [*candidates, parent]
            ranked = measure.best(candidates, survivors, tokens)
            candidates = [levels for levels, _ in ranked]
        parent, value = ranked[0]  # the parent was in the last stage, so there is one
        history.append(value)
    return EvolutionarySearch(parent.copy(), float(history[-1]), problem.cost(parent), np.array(history, np.float64), measure.calls)


def _plan(where: str, stages: Any) -> list[tuple[int, int | None]]:
    if stages is None:
        return [(1, None)]
    plan: list[tuple[int, int | None]] = []
    for stage in stages:
        if not (isinstance(stage, Sequence) and len(stage) == 2):
            raise ValueError(f"{where}: stages holds {stage!r}; expected pairs of survivors and tokens")
        plan.append((_checks.integer(where, "survivors", stage[0], 1), _checks.integer(where, "tokens", stage[1], 1)))
    if not plan or plan[-1][0] != 1:
        raise ValueError(f"{where}: stages is {stages!r}; expected a last stage with 1 survivor")
    return plan


class _Measure:
    """Calls the fitness and ranks candidates; ties go to the later one, so that a child as good as others does not replace the parent."""

    def __init__(self, where: str, fitness: Callable[..., float], random: np.random.Generator):
        self.where, self.fitness, self.random, self.calls = where, fitness, random, 0
        self.known: dict[bytes, float] = {}

    def best(self, candidates: list[Levels], survivors: int, tokens: int | None) -> list[tuple[Levels, float]]:
        draw = int(self.random.integers(2**63)) if tokens is not None else 0
        values = [self.value(levels, tokens, draw) for levels in candidates]
        order = sorted(range(len(candidates)), key=lambda i: (np.isnan(values[i]), values[i], -i))
        return [(candidates[i], values[i]) for i in order[:survivors]]

    def value(self, levels: Levels, tokens: int | None, draw: int) -> float:
        key = levels.tobytes()
        if tokens is None and key in self.known:
            return self.known[key]
        self.calls += 1
        given = levels.copy()
        result = self.fitness(given) if tokens is None else self.fitness(given, tokens=tokens, seed=draw)
        try:
            number = float(result)
        except (TypeError, ValueError):
            raise TypeError(f"{self.where}: fitness returned {result!r}; expected a number") from None
        if tokens is None:
            self.known[key] = number
        return number


class _Problem:
    """Layers, budget and moves."""

    def __init__(self, where: str, layers: Any, sizes: Any, target: Any, minimum: Any, maximum: Any, grouped: bool):
        if (layers is None) == (sizes is None):
            raise ValueError(f"{where}: got {'neither' if layers is None else 'both'} of layers and sizes; expected one of them")
        if sizes is None:
            self.sizes = np.ones(_checks.integer(where, "layers", layers, 1), np.int64)
        else:
            self.sizes = _whole(where, "sizes", sizes, None)
            if self.sizes.ndim != 1 or self.sizes.size == 0 or (self.sizes < 1).any():
                raise ValueError(f"{where}: sizes is {sizes!r}; expected a vector of positive whole numbers")
        self.minimum = _whole(where, "minimum", minimum, self.sizes.shape)
        self.maximum = _whole(where, "maximum", maximum, self.sizes.shape)
        if (self.minimum > self.maximum).any():
            raise ValueError(
                f"{where}: minimum exceeds maximum in layer {int(np.argmax(self.minimum > self.maximum))}; expected minimum <= maximum"
            )
        self.target = _checks.real(where, "target", target)
        self.budget = int(np.floor(self.target * int(self.sizes.sum()) * (1 + 1e-12)))
        if self.cost(self.minimum) > self.budget:
            raise ValueError(
                f"{where}: target is {self.target:g}, a budget of {self.budget}; expected at least {self.cost(self.minimum)}, all layers at minimum"
            )
        self.grouped = grouped
        self.groups = [np.flatnonzero(self.sizes == size) for size in np.unique(self.sizes)]
        self.shares = np.cumsum([len(group) for group in self.groups])[:-1] / self.sizes.size  # where a uniform number changes group

    def cost(self, levels: Levels) -> int:
        return int(self.sizes @ levels)

    def uniform(self) -> Levels | None:
        """All layers at the target, if that is possible."""
        if self.target != int(self.target):
            return None
        levels = np.full(self.sizes.shape, int(self.target))
        return levels if ((self.minimum <= levels) & (levels <= self.maximum)).all() else None

    def random_start(self, random: np.random.Generator) -> Levels:
        levels = np.clip(np.full(self.sizes.shape, ceil(self.target)), self.minimum, self.maximum)
        while self.cost(levels) > self.budget:
            levels[_any(np.flatnonzero(levels > self.minimum), random)] -= 1
        return levels

    def offspring(self, parent: Levels, count: int, random: np.random.Generator) -> list[Levels]:
        """Up to count different children; fewer where the neighbourhood seems to have no more."""
        seen = {parent.tobytes()}
        children: list[Levels] = []
        repeats = 0
        for _ in range(20 * count):
            if len(children) == count or repeats > 50 + len(children):
                break
            flips = int(min(random.integers(1, 4), random.integers(1, 4)))
            child = self.swapped(parent, flips, random) if self.grouped else self.shifted(parent, flips, random)
            if child is None:
                continue
            key = child.tobytes()
            repeats = repeats + 1 if key in seen else 0
            if key not in seen:
                seen.add(key)
                children.append(child)
        return children

    def swapped(self, parent: Levels, flips: int, random: np.random.Generator) -> Levels | None:
        child = parent.copy()
        for _ in range(flips):
            group = self.groups[int(np.searchsorted(self.shares, random.random(), side="right"))]
            lower = group[child[group] > self.minimum[group]]
            if lower.size == 0:
                return None
            lowered = _any(lower, random)
            raised = group[child[group] < self.maximum[group]]
            if raised.size == 0:
                return None
            child[lowered] -= 1
            child[_any(raised, random)] += 1
        return child

    def shifted(self, parent: Levels, flips: int, random: np.random.Generator) -> Levels | None:
        child = parent.copy()
        for _ in range(flips):
            raised = np.flatnonzero(child < self.maximum)
            if raised.size == 0:
                return None
            child[_any(raised, random)] += 1
        while self.cost(child) > self.budget:
            child[_any(np.flatnonzero(child > self.minimum), random)] -= 1
        change = child - parent
        added, removed = int(self.sizes @ np.maximum(change, 0)), int(self.sizes @ np.maximum(-change, 0))
        if np.abs(change).sum() > 10 or added / max(1, removed) < 0.8:
            return None
        return child


def _any(places: NDArray[np.intp], random: np.random.Generator) -> int:
    return int(places[random.integers(places.size)])


def _whole(where: str, name: str, value: Any, shape: tuple[int, ...] | None) -> Levels:
    result = np.asarray(value)
    if result.dtype.kind not in "iu":
        raise TypeError(f"{where}: {name} has dtype {result.dtype}; expected whole numbers")
    if shape is not None and result.shape not in ((), shape):
        raise ValueError(f"{where}: {name} has shape {result.shape}; expected one number or {shape}")
    result = result.astype(np.int64)
    return result if shape is None else np.broadcast_to(result, shape).copy()


def kl_divergence(base_logits: ArrayLike, candidate_logits: ArrayLike, *, top: int | None = None) -> float:
    """KL(base || candidate) of two sets of logits, averaged over rows: the paper's fitness.

    Args:
        base_logits, candidate_logits: (..., classes), finite, of equal shape.
        top: compares only the classes with the top largest base logits (10 in the paper's code; a tie is broken by class number), with both
            sides renormalised there; default all.
    Returns:
        float, nats; 0 for equal logits.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: shapes differ, are empty, or top is not within 1 and classes.
    Notes:
        Computed in float64.

    >>> round(kl_divergence([[0.0, 0.0]], [[0.0, np.log(3)]]), 6)
    0.143841
    >>> kl_divergence([[3.0, 2.0, -9.0]], [[1.0, 0.0, 5.0]], top=2)  # the two largest of the base differ by 1 on both sides
    0.0
    """
    where = "kl_divergence"
    base = _checks.array(where, "base_logits", base_logits)
    other = _checks.array(where, "candidate_logits", candidate_logits)
    if base.ndim < 1 or base.shape != other.shape:
        raise ValueError(
            f"{where}: candidate_logits has shape {other.shape} and base_logits {base.shape}; expected equal shapes (..., classes)"
        )
    if top is not None:
        top = _checks.integer(where, "top", top, 1, base.shape[-1])
        best = np.argsort(-base, axis=-1, kind="stable")[..., :top]
        base, other = np.take_along_axis(base, best, -1), np.take_along_axis(other, best, -1)
    log_p, log_q = _log_softmax(base), _log_softmax(other)
    return float(np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
