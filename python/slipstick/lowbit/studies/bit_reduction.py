"""Incremental bit reduction: what is left of a number when mantissa bits are masked and the exponent range is clipped.

"To FP8 and Back Again" (Lee et al. 2024, arXiv 2405.18710) trains models whose matrix products see inputs with fewer and fewer bits, to
find where training becomes unstable. Mantissa bits are *masked* (cut off, not rounded), exponent bits go by *clipping* the range to that
of the smaller format, and there is no scale. The biased rounding is part of the experiment.

This is the definition, for any float dtype. On float32 lowbit.quantize with rounding="toward_zero" into a Format that saturates gives the
same, faster for large arrays, and takes torch tensors.

>>> mask_mantissa(np.float32([1.99, -1.99, 0.1]), 2)
array([ 1.75   , -1.75   ,  0.09375], dtype=float32)
>>> reduce_bits(np.float32([1e6, 1.99, 1e-6]), exponent_bits=4, mantissa_bits=3)
array([240.   ,   1.875,   0.   ], dtype=float32)

The paper's full text was not at hand: which tensors are masked is the caller's choice, and the range is that of IEEE-like formats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _checks

__all__ = ["clip_exponent", "mask_mantissa", "reduce_bits"]

_LAYOUTS = {"float16": (5, 10, np.uint16), "bfloat16": (8, 7, np.uint16), "float32": (8, 23, np.uint32), "float64": (11, 52, np.uint64)}


def _words(where: str, values: Any) -> tuple[NDArray[Any], NDArray[Any], int, int]:
    """values as a fresh array, the same memory as a vector of unsigned words, and its exponent and mantissa bits."""
    fresh = np.array(values, order="C")
    if fresh.dtype.name not in _LAYOUTS:
        raise TypeError(f"{where}: values has dtype {fresh.dtype}; expected one of {', '.join(_LAYOUTS)}")
    if not fresh.dtype.isnative:
        fresh = fresh.astype(fresh.dtype.newbyteorder("="))
    exponent, mantissa, word = _LAYOUTS[fresh.dtype.name]
    return fresh, fresh.reshape(-1).view(word), exponent, mantissa


def _is_nan(words: NDArray[Any], exponent: int, mantissa: int) -> NDArray[np.bool_]:
    word = words.dtype.type
    return (words & word(2 ** (exponent + mantissa) - 1)) > word((2**exponent - 1) << mantissa)


def mask_mantissa(values: Any, mantissa_bits: int) -> NDArray[Any]:
    """Keeps the leading mantissa bits of every number and sets the others to 0: truncation toward zero.

    Args:
        values: array of any shape; float32, float64, float16, or bfloat16 of ml_dtypes.
        mantissa_bits: explicit mantissa bits that stay, from 0 to those of the dtype.
    Returns:
        A new array of the same shape and dtype.
    Raises:
        TypeError: another dtype, or bits that are not an int.
        ValueError: mantissa_bits is out of range.
    Notes:
        Exact. Signs, zeros and infinities stay. NaN stays NaN: its payload is not masked, as that could turn it into infinity.
        Subnormal numbers keep bits at the same places as the smallest normal ones.

    >>> mask_mantissa(np.float32([3.9, -0.7, np.inf, np.nan]), 1)
    array([ 3. , -0.5,  inf,  nan], dtype=float32)
    """
    fresh, words, exponent, mantissa = _words("mask_mantissa", values)
    kept = _checks.integer("mask_mantissa", "mantissa_bits", mantissa_bits, 0, mantissa)
    keep = np.array(-1).astype(words.dtype) << words.dtype.type(mantissa - kept)
    np.bitwise_and(words, keep, out=words, where=~_is_nan(words, exponent, mantissa))
    return fresh


def clip_exponent(
    values: Any, exponent_bits: int, *, mantissa_bits: int | None = None, bias: int | None = None, subnormals: bool = False
) -> NDArray[Any]:
    """Clips the range of every number to that of a format with fewer exponent bits, and flushes what is too small.

    Args:
        values: as in `mask_mantissa`.
        exponent_bits: 2 to those of the dtype.
        mantissa_bits: those of the format whose largest value is the limit and whose subnormal numbers are kept; default all of the dtype.
        bias: exponent bias; default 2^(exponent_bits - 1) - 1.
        subnormals: whether magnitudes below the smallest normal number keep the bits that a subnormal number has for them (cut off), or
            become 0 with their sign.
    Returns:
        A new array of the same shape and dtype.
    Raises:
        TypeError, ValueError: as in `mask_mantissa`; also where the format's range is not within that of the dtype.
    Notes:
        Exact. The code with all exponent bits set is kept for infinity and NaN as in IEEE 754, so that the largest value is
        (2 - 2^-mantissa_bits) 2^(2^exponent_bits - 2 - bias) and clipping to the exponent bits of the dtype changes nothing but subnormal
        numbers and infinities. Infinities become the largest value; NaN stays. With mantissa_bits this only clips: `reduce_bits` masks.

    >>> clip_exponent(np.float32([1e9, 65504, 6.2e-5, 6.0e-5, -1e-9]), 5, mantissa_bits=10)
    array([ 6.5504e+04,  6.5504e+04,  6.2000e-05,  0.0000e+00, -0.0000e+00],
          dtype=float32)
    """
    return _clip("clip_exponent", values, exponent_bits, mantissa_bits, bias, subnormals)


def _clip(where: str, values: Any, exponent_bits: int, mantissa_bits: int | None, bias: int | None, subnormals: bool) -> NDArray[Any]:
    fresh, words, exponent, mantissa = _words(where, values)
    exponent_bits = _checks.integer(where, "exponent_bits", exponent_bits, 2, exponent)
    kept = mantissa if mantissa_bits is None else _checks.integer(where, "mantissa_bits", mantissa_bits, 0, mantissa)
    own_bias = 2 ** (exponent - 1) - 1
    bias = 2 ** (exponent_bits - 1) - 1 if bias is None else _checks.integer(where, "bias", bias, -(2**exponent), 2**exponent)
    smallest, largest = 1 - bias, 2**exponent_bits - 2 - bias
    if smallest < 1 - own_bias or largest > own_bias:
        raise ValueError(
            f"{where}: bias is {bias}, for exponents from {smallest} to {largest}; expected them within "
            f"{1 - own_bias} to {own_bias}, the range of {fresh.dtype}"
        )
    word = words.dtype.type
    magnitude = words & word(2 ** (exponent + mantissa) - 1)  # as integers, magnitudes are in the order of the numbers; NaN is the largest
    sign = words & word(2 ** (exponent + mantissa))
    limit = word(((largest + own_bias) << mantissa) | ((2**kept - 1) << (mantissa - kept)))
    normal = word((smallest + own_bias) << mantissa)
    low = magnitude < normal
    clipped = np.minimum(magnitude, limit)
    if subnormals:
        clipped = np.where(low, _cut_subnormals(magnitude, smallest - kept, own_bias, mantissa), clipped)
    else:
        clipped[low] = 0
    np.copyto(words, clipped | sign, where=~_is_nan(words, exponent, mantissa))
    return fresh


def _cut_subnormals(magnitude: NDArray[Any], spacing: int, own_bias: int, mantissa: int) -> NDArray[Any]:
    """Magnitudes cut to multiples of 2^spacing, on their words."""
    word = magnitude.dtype.type
    field = (magnitude >> word(mantissa)).astype(np.int64)
    unit = np.maximum(field, 1) - own_bias - mantissa  # exponent of the last mantissa bit
    drop = np.clip(spacing - unit, 0, mantissa + 1)
    cut = (magnitude >> np.minimum(drop, mantissa).astype(word)) << np.minimum(drop, mantissa).astype(word)
    return np.where(drop > mantissa, word(0), cut)


def reduce_bits(values: Any, exponent_bits: int, mantissa_bits: int, *, bias: int | None = None, subnormals: bool = False) -> NDArray[Any]:
    """The number of the format ExMy that is left when mantissa bits are masked and the exponent range is clipped.

    Args, Returns, Raises, Notes:
        As in `mask_mantissa` and `clip_exponent`, applied in this order. The result is that of rounding toward zero into the IEEE-like
        format with saturation, and with subnormal numbers kept or flushed.

    >>> a, b = np.float32([[1.3, 2.7]]), np.float32([[3.1], [-1.6]])
    >>> reduce_bits(a, 4, 1) @ reduce_bits(b, 4, 1)  # a product of masked inputs: 1 * 3 - 2 * 1.5
    array([[0.]], dtype=float32)
    """
    masked = mask_mantissa(values, mantissa_bits)
    return _clip("reduce_bits", masked, exponent_bits, mantissa_bits, bias, subnormals)
