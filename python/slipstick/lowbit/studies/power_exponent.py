"""Power quantizers, whose levels lie denser near zero, and the search for their exponent.

PowerQuant (Yvinec et al. 2023, ICLR) and NUPES (2023, arXiv 2308.05600) quantize uniformly after raising magnitudes to a power: the powers
are the only continuous maps of positive numbers that turn products into products, so multiplication survives. One exponent for a whole
network is chosen to minimise the error of its weights; it is near 0.55 in the paper.

>>> weights = np.random.default_rng(0).laplace(size=4000)
>>> found = search_exponent([weights], bits=4)
>>> 0.4 < found.exponent < 0.8 and found.error < found.uniform_error
True

NUPES also learns the exponent and the codes by gradient; that part, and its error norms, are not sourced and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["ExponentSearch", "power_dequantize", "power_quantize", "reconstruction_error", "search_exponent"]


def power_quantize(
    weights: ArrayLike, exponent: float, bits: int, *, axis: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Codes q = round((2^(bits - 1) - 1) sign(w) |w|^exponent / max |w|^exponent), halves to even.

    Args:
        weights: array of any shape, finite; not empty.
        exponent: positive; 1 is uniform quantization.
        bits: 2 to 32, sign included.
        axis: the axis whose every index has a maximum of its own (channels); default one for all.
    Returns:
        (codes, maxima): int64 of the shape of weights, and float64 max |w|, () or broadcastable to weights.
    Raises:
        TypeError, ValueError: an argument of another kind or out of range.
    Notes:
        Computed in float64 as (|w| / max |w|)^exponent. Where all weights are 0 so are the codes.

    >>> codes, maxima = power_quantize([-1.0, 0.0, 0.25, 0.5], 0.5, bits=4)
    >>> codes, maxima
    (array([-7,  0,  4,  5]), array(1.))
    """
    where = "power_quantize"
    w, exponent, levels = _arguments(where, weights, exponent, bits)
    maxima = _maxima(where, w, axis)
    with np.errstate(invalid="ignore"):
        share = np.where(maxima > 0, np.abs(w) / np.where(maxima > 0, maxima, 1), 0)
    return (np.sign(w) * np.rint(levels * share**exponent)).astype(np.int64), maxima


def power_dequantize(codes: ArrayLike, maxima: ArrayLike, exponent: float, bits: int) -> NDArray[np.float64]:
    """The values of codes of `power_quantize`: sign(q) max |w| (|q| / (2^(bits - 1) - 1))^(1 / exponent).

    Args:
        codes: whole numbers within +-(2^(bits - 1) - 1).
        maxima, exponent, bits: as there.
    Returns:
        float64 array.
    Raises:
        TypeError, ValueError: an argument of another kind or out of range.

    >>> power_dequantize([-7, 0, 4], 1.0, 0.5, bits=4).round(4)
    array([-1.    ,  0.    ,  0.3265])
    """
    where = "power_dequantize"
    q = np.asarray(codes)
    if q.dtype.kind not in "iu":
        raise TypeError(f"{where}: codes has dtype {q.dtype}; expected whole numbers")
    scale, exponent, levels = _arguments(where, maxima, exponent, bits, name="maxima")
    if q.size and int(np.abs(q).max()) > levels:
        raise ValueError(f"{where}: codes holds {int(np.abs(q).max())} in magnitude; expected at most {levels} for {bits} bits")
    return np.sign(q) * scale * (np.abs(q) / levels) ** (1 / exponent)


def reconstruction_error(weights: Sequence[ArrayLike] | ArrayLike, exponent: float, bits: int, *, axis: int | None = None) -> float:
    """Sum over tensors of the Euclidean norm of weights minus what is left of them after power quantization.

    Args:
        weights: a list or tuple of arrays, or one array.
        exponent, bits, axis: as in `power_quantize`.
    Raises:
        TypeError, ValueError: as there.

    >>> reconstruction_error([0.0, 0.5, 1.0], 1.0, bits=2)  # 0.5 becomes 0
    0.5
    """
    total = 0.0
    for tensor in _tensors(weights):
        codes, maxima = power_quantize(tensor, exponent, bits, axis=axis)
        total += float(
            np.linalg.norm(_checks.array("reconstruction_error", "weights", tensor) - power_dequantize(codes, maxima, exponent, bits))
        )
    return total


@dataclass(frozen=True)
class ExponentSearch:
    """What `search_exponent` finds: the exponent, its error, the error of exponent 1, and all (exponent, error) pairs tried, sorted."""

    exponent: float
    error: float
    uniform_error: float
    tried: tuple[tuple[float, float], ...]


def search_exponent(
    weights: Sequence[ArrayLike] | ArrayLike,
    bits: int,
    *,
    axis: int | None = None,
    low: float = 0.1,
    high: float = 1.5,
    grid: int = 29,
    tolerance: float = 1e-3,
) -> ExponentSearch:
    """The one exponent for all tensors with the smallest `reconstruction_error`: a grid, then golden sections around its best point.

    The error is smooth only on average, since rounding makes it jump, and has one valley; the grid finds the valley, whatever its shape
    elsewhere. The paper starts Nelder-Mead instead.

    Args:
        weights: a list or tuple of arrays, or one array.
        bits, axis: as in `power_quantize`.
        low, high: positive, the exponents to look between.
        grid: points of the first step, at least 3; exponent 1 is always one more where it is between low and high.
        tolerance: width at which the second step ends.
    Returns:
        The best exponent that was tried: never worse than any point of the grid, nor than uniform quantization where 1 is within bounds.
    Raises:
        TypeError, ValueError: an argument of another kind or out of range.
    Notes:
        Deterministic; about grid + 12 quantizations of all weights.

    >>> found = search_exponent(np.linspace(-1, 1, 255), bits=8)  # uniform weights on the quantizer's own levels
    >>> found.exponent, found.error < 1e-12
    (1.0, True)
    """
    where = "search_exponent"
    tensors = _tensors(weights)
    if not tensors:
        raise ValueError(f"{where}: weights is empty; expected at least one array")
    low = _checks.real(where, "low", low, above=0)
    high = _checks.real(where, "high", high, above=low)
    grid = _checks.integer(where, "grid", grid, 3)
    tolerance = _checks.real(where, "tolerance", tolerance, above=0)
    known: dict[float, float] = {}

    def error(exponent: float) -> float:
        if exponent not in known:
            known[exponent] = reconstruction_error(tensors, exponent, bits, axis=axis)
        return known[exponent]

    points = sorted({*(float(point) for point in np.linspace(low, high, grid)), *([1.0] if low <= 1 <= high else [])})
    best = min(range(len(points)), key=lambda i: error(points[i]))
    left, right = points[max(best - 1, 0)], points[min(best + 1, len(points) - 1)]
    section = (5**0.5 - 1) / 2
    inner = [right - section * (right - left), left + section * (right - left)]
    while right - left > tolerance:
        if error(inner[0]) <= error(inner[1]):
            right, inner = inner[1], [inner[1] - section * (inner[1] - left), inner[0]]
        else:
            left, inner = inner[0], [inner[1], inner[0] + section * (right - inner[0])]
    exponent = min(known, key=lambda point: (known[point], point))
    uniform = reconstruction_error(tensors, 1.0, bits, axis=axis) if 1.0 not in known else known[1.0]
    return ExponentSearch(exponent, known[exponent], uniform, tuple(sorted(known.items())))


def _tensors(weights: Any) -> list[Any]:
    """A list or tuple that holds arrays is one tensor an element; anything else is one tensor."""
    if isinstance(weights, (list, tuple)) and all(np.ndim(tensor) for tensor in weights):
        return list(weights)
    return [weights]


def _arguments(where: str, weights: Any, exponent: Any, bits: Any, *, name: str = "weights") -> tuple[NDArray[np.float64], float, int]:
    w = _checks.array(where, name, weights)
    power = _checks.real(where, "exponent", exponent, above=0)
    return w, power, 2 ** (_checks.integer(where, "bits", bits, 2, 32) - 1) - 1


def _maxima(where: str, w: NDArray[np.float64], axis: Any) -> NDArray[np.float64]:
    if axis is None:
        return np.asarray(np.abs(w).max())
    kept = _checks.integer(where, "axis", axis, -w.ndim, w.ndim - 1) % w.ndim
    return np.asarray(np.abs(w).max(axis=tuple(j for j in range(w.ndim) if j != kept), keepdims=True))
