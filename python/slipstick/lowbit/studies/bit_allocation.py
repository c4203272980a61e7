"""Bit allocation under an exact budget: equal losses in closed form, and the integer optimum by marginal loss (after BAQ, arXiv 2506.05664).

Column i of a weight matrix that is quantized with R_i bits loses about c_i 2^(-exponent R_i). With real-valued bits the total loss is
smallest where all columns lose the same: R_i = mean + log2(c_i / geometric mean of c) / exponent, and columns that would get less than
the minimum or more than the maximum stay there. With whole bits, giving each bit to the column where it saves most is optimal.

>>> equal_loss_bits([1, 4, 16, 0.25], mean_bits=3)
array([2.5, 3.5, 4.5, 1.5])
>>> integer_bits([1, 4, 16, 0.25], total_bits=12)
array([3, 4, 4, 1])

BAQ's released code has no budget: see `released_levels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["allocation_loss", "column_coefficients", "equal_loss_bits", "integer_bits", "measured_bits", "released_levels"]


def column_coefficients(ranges: ArrayLike, inverse_hessian_diagonal: ArrayLike) -> NDArray[np.float64]:
    """The coefficients c_i of a layer: range^2 / (12 d^2), the loss of uniform noise at 0 bits.

    Args:
        ranges: (columns,), largest minus smallest weight of each column, at least 0.
        inverse_hessian_diagonal: (columns,), positive: the diagonal of the upper Cholesky factor of the inverse Hessian, as in GPTQ.
    Returns:
        (columns,) float64.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: shapes differ, or a value is out of range.

    >>> column_coefficients([6.0, 3.0], [1.0, 0.5])
    array([3., 3.])
    """
    where = "column_coefficients"
    spans = _checks.array(where, "ranges", ranges, dimensions=1)
    diagonal = _checks.array(where, "inverse_hessian_diagonal", inverse_hessian_diagonal, dimensions=1)
    if spans.shape != diagonal.shape:
        raise ValueError(f"{where}: inverse_hessian_diagonal has length {diagonal.size}; expected {spans.size}, as ranges")
    if (spans < 0).any():
        raise ValueError(f"{where}: ranges holds {spans.min():g}; expected values of at least 0")
    if (diagonal <= 0).any():
        raise ValueError(f"{where}: inverse_hessian_diagonal holds {diagonal.min():g}; expected positive values")
    return np.square(spans / diagonal) / 12


def allocation_loss(coefficients: ArrayLike, bits: ArrayLike, *, exponent: float = 2.0) -> float:
    """Total loss of an allocation: the sum of c_i 2^(-exponent R_i).

    Args:
        coefficients: (columns,), at least 0.
        bits: (columns,), real.
        exponent: positive.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: shapes differ, or a value is out of range.

    >>> allocation_loss([1, 4], [2.5, 3.5])
    0.0625
    """
    c = _coefficients("allocation_loss", coefficients)
    rates = _checks.array("allocation_loss", "bits", bits, dimensions=1)
    if rates.shape != c.shape:
        raise ValueError(f"allocation_loss: bits has length {rates.size}; expected {c.size}, as coefficients")
    return float(np.sum(c * np.exp2(-_checks.real("allocation_loss", "exponent", exponent, above=0) * rates)))


def equal_loss_bits(
    coefficients: ArrayLike, mean_bits: float, *, exponent: float = 2.0, minimum: float = 0.0, maximum: float | None = None
) -> NDArray[np.float64]:
    """The real-valued bits of every column that minimise the total loss for a given mean.

    Args:
        coefficients: (columns,), at least 0; scaling all of them changes nothing.
        mean_bits: the budget over the number of columns, from minimum to maximum.
        exponent: how fast a loss falls with bits, positive: 2 for uniform noise, 1.95 in BAQ's released code.
        minimum, maximum: bounds of every column; maximum None is no bound.
    Returns:
        (columns,) float64, with the given mean to rounding. Columns between the bounds lose the same. A column of coefficient 0 gets the
        minimum, unless all others have the maximum.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a value is out of range.
    Notes:
        O(columns log columns): the level of log2(c_i) / exponent - R_i that is common to the columns is found among sorted break points.

    >>> equal_loss_bits([1, 4, 16, 0.25], 3, exponent=1.95).round(6)  # as BAQ's code allocates
    array([2.487179, 3.512821, 4.538462, 1.461538])
    >>> equal_loss_bits([1, 4, 2.0**-20], 2)  # the last column would get less than nothing
    array([2.5, 3.5, 0. ])
    """
    where = "equal_loss_bits"
    c = _coefficients(where, coefficients)
    exponent = _checks.real(where, "exponent", exponent, above=0)
    minimum = _checks.real(where, "minimum", minimum)
    maximum = np.inf if maximum is None else _checks.real(where, "maximum", maximum, least=minimum)
    mean_bits = _checks.real(where, "mean_bits", mean_bits, least=minimum, most=maximum)
    return _fill(_scores(c, exponent), mean_bits, minimum, maximum)


def _scores(c: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """log2(c) / exponent; columns without loss stand so far below the others that they get bits last."""
    with np.errstate(divide="ignore"):
        return np.log2(c) / exponent


def _fill(scores: NDArray[np.float64], mean: float, minimum: float, maximum: float) -> NDArray[np.float64]:
    """clip(scores - level, minimum, maximum) with the given mean: water-filling."""
    alive = np.isfinite(scores)
    bits = np.full(scores.size, minimum)
    if not alive.any():
        return np.full(scores.size, mean)
    budget = mean * scores.size - minimum * np.count_nonzero(~alive)
    own = np.count_nonzero(alive) * maximum
    if budget >= own:  # all that can lose have the maximum; the rest shares what is left
        bits[alive] = maximum
        if not alive.all():
            bits[~alive] = minimum + (budget - own) / np.count_nonzero(~alive)
        return bits
    x = np.sort(scores[alive])
    # As the level falls, a column leaves the minimum at x - minimum and reaches the maximum at x - maximum; between, the sum is linear.
    levels = np.unique(np.concatenate([x - minimum, x - maximum] if np.isfinite(maximum) else [x - minimum]))
    below = np.flatnonzero(_totals(x, levels, minimum, maximum) >= budget)  # sums fall with the level
    level = levels[below[-1]] if below.size else levels[0]
    moving = x.size
    if below.size:
        inside = (level + levels[min(below[-1] + 1, levels.size - 1)]) / 2  # at a break point itself rounding would decide
        moving = np.searchsorted(x, inside + maximum) - np.searchsorted(x, inside + minimum)
    level += (np.clip(scores[alive] - level, minimum, maximum).sum() - budget) / max(moving, 1)
    bits[alive] = np.clip(scores[alive] - level, minimum, maximum)
    return bits


def _totals(x: NDArray[np.float64], levels: NDArray[np.float64], minimum: float, maximum: float) -> NDArray[np.float64]:
    """_total for every level in O(n log n): x is sorted, so the columns between the bounds are a slice."""
    prefix = np.concatenate([[0.0], np.cumsum(x)])
    low = np.searchsorted(x, levels + minimum, side="right")
    high = np.maximum(np.searchsorted(x, levels + maximum, side="left"), low)
    inner = prefix[high] - prefix[low] - levels * (high - low)
    outer = np.where(high < x.size, (x.size - high) * (maximum if np.isfinite(maximum) else 0.0), 0.0)
    return low * minimum + inner + outer


def integer_bits(
    coefficients: ArrayLike, total_bits: int, *, exponent: float = 2.0, minimum: int = 0, maximum: int | None = None
) -> NDArray[np.int64]:
    """The whole bits of every column that minimise the total loss for a given sum: exactly optimal.

    Args:
        coefficients: (columns,), at least 0.
        total_bits: the sum of the bits, from columns x minimum to columns x maximum.
        exponent: as in `equal_loss_bits`.
        minimum, maximum: bounds of every column; maximum None is no bound.
    Returns:
        (columns,) int64 with exactly that sum; on a tie the earlier column gets the bit.
    Raises:
        TypeError, ValueError: bits that are not ints, or a value out of range.
    Notes:
        The loss of a column is convex in its bits, so the bits that save most, taken one by one, are an optimum (Fox 1966). All but about
        two a column are known from the real-valued solution; the rest is one sort: O(columns log columns). Savings are compared as
        computed in float64.

    >>> integer_bits([1.0, 1.0, 1.0], 4)
    array([2, 1, 1])
    >>> integer_bits([1, 4, 16, 0.25], 12, minimum=2, maximum=4)
    array([3, 3, 4, 2])
    """
    where = "integer_bits"
    c = _coefficients(where, coefficients)
    exponent = _checks.real(where, "exponent", exponent, above=0)
    minimum = _checks.integer(where, "minimum", minimum, 0)
    most = None if maximum is None else _checks.integer(where, "maximum", maximum, minimum)
    columns = c.size
    total = _checks.integer(where, "total_bits", total_bits, columns * minimum, None if most is None else columns * most)
    cap = float(minimum + total if most is None else most)
    real = _fill(_scores(c, exponent), total / columns, float(minimum), cap)
    bits = np.maximum(np.floor(real) - 1, minimum).astype(np.int64)  # one less than the floor: safe from rounding of the level
    left = total - int(bits.sum())
    ahead = 3  # steps from the start to the ceiling are 2, and one is for rounding
    steps = bits[:, None] + np.arange(ahead)
    savings = c[:, None] * np.exp2(-exponent * steps)  # times 1 - 2^-exponent, the same for all
    savings[steps >= cap] = -1  # taken last, and only if the budget were out of range
    order = np.argsort(-savings.ravel(), kind="stable")[:left]
    return bits + np.bincount(order // ahead, minlength=columns)


def measured_bits(losses: ArrayLike, total_bits: int) -> NDArray[np.int64]:
    """The whole bits of every column that minimise the total of losses that were measured, for a given sum: exactly optimal.

    Args:
        losses: (columns, choices), the loss of each column at 0, 1, 2, ... bits; every row falls or stays, ever more slowly.
        total_bits: the sum of the bits, from 0 to columns x (choices - 1).
    Returns:
        (columns,) int64 with exactly that sum; on a tie the earlier column gets the bit.
    Raises:
        TypeError, ValueError: bits that are not an int, a value out of range, or a row that rises or is not convex, for which taking the
            best bit first is not optimal (`evolutionary_search` takes any losses).
    Notes:
        For choices that start at more than 0 bits, give the columns of losses from there on and add the start to the result.

    >>> measured_bits([[9.0, 4.0, 2.0], [5.0, 1.0, 0.5]], 2)
    array([1, 1])
    """
    where = "measured_bits"
    table = _checks.array(where, "losses", losses, dimensions=2)
    savings = table[:, :-1] - table[:, 1:]
    if (savings < 0).any():
        raise ValueError(
            f"{where}: losses rises in column {int(np.argmax((savings < 0).any(axis=1)))}; expected losses that fall with bits"
        )
    uneven = (np.diff(savings, axis=1) > 1e-12 * np.abs(table).max(axis=1, keepdims=True)).any(axis=1)  # more than rounding
    if uneven.any():
        raise ValueError(
            f"{where}: losses is not convex in column {int(np.argmax(uneven))}; expected every bit to save no more than the one before"
        )
    total = _checks.integer(where, "total_bits", total_bits, 0, savings.size)
    order = np.argsort(-savings.ravel(), kind="stable")[:total]  # in a row, equal savings stay in the order of the bits
    return np.bincount(order // max(savings.shape[1], 1), minlength=len(table)).astype(np.int64)


def released_levels(losses: ArrayLike, mean_bits: float, *, exponent: float = 1.95) -> NDArray[np.int64]:
    """Numbers of quantization levels as BAQ's released code allocates them, from losses measured at a uniform rate.

    Args:
        losses: (columns,), measured with mean_bits everywhere, at least 0.
        mean_bits: the uniform rate, positive.
        exponent: 1.95 in the code.
    Returns:
        (columns,) int64, at least 1: round(2^(mean_bits + log2(loss / geometric mean) / exponent)), halves to even. The bits are log2 of
        it: fractional, and their mean only near mean_bits.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a value is out of range.
    Notes:
        The code adds 1e-8 to the losses inside the logarithm of the geometric mean, and so does this. Use `integer_bits` for a budget.

    >>> released_levels([1, 4, 16, 0.25], 3)  # bits 2.487, 3.513, 4.538, 1.462 before rounding
    array([ 6, 11, 23,  3])
    """
    where = "released_levels"
    measured = _coefficients(where, losses, name="losses")
    rate = _checks.real(where, "mean_bits", mean_bits, above=0)
    exponent = _checks.real(where, "exponent", exponent, above=0)
    geometric_mean = np.exp(np.mean(np.log(measured + 1e-8)))
    levels = (measured / geometric_mean * 2 ** (exponent * rate)) ** (1 / exponent)
    return np.round(np.maximum(levels, 1)).astype(np.int64)


def _coefficients(where: str, values: Any, *, name: str = "coefficients") -> NDArray[np.float64]:
    c = _checks.array(where, name, values, dimensions=1)
    if (c < 0).any():
        raise ValueError(f"{where}: {name} holds {c.min():g}; expected values of at least 0")
    return c
