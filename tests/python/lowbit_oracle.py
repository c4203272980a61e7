"""Rounding from its definition, in exact integer arithmetic: the oracle of the lowbit tests. Shares nothing with the product but names of fields.

Every number is a Python integer counted in units of 2^-1074, the smallest float64. The numbers of a format are listed by the meaning of each
code, and a mode picks one of the two neighbours of x by comparing integers.
"""

from __future__ import annotations

import bisect
import math

import numpy as np

UNIT = 1074
DETERMINISTIC = ("nearest_even", "nearest_away", "toward_zero", "up", "down", "to_odd")


def units(x: float) -> int:
    numerator, denominator = float(x).as_integer_ratio()
    return (numerator << UNIT) // denominator


class Oracle:
    """Of a Format of kind "float" or "integer"."""

    def __init__(self, fmt):
        self.fmt = fmt
        if fmt.kind == "integer":
            most = 2 ** (fmt.bits - fmt.signed) - 1
            quantum = 1 << (UNIT - fmt.fraction_bits)
            self.magnitudes = [k * quantum for k in range(most + 2)]
            self.most = {1: most, -1: (most if fmt.symmetric else most + 1) if fmt.signed else 0}
            self.overflow = {1: most * quantum, -1: -self.most[-1] * quantum}
            self.nan_code = None
            return
        exponent_bits, mantissa_bits = fmt.exponent_bits, fmt.mantissa_bits
        top = {
            "ieee": (2**exponent_bits - 1) * 2**mantissa_bits - 1,
            "finite_nan": 2 ** (exponent_bits + mantissa_bits) - 2,
            "p3109": 2 ** (exponent_bits + mantissa_bits) - 2,
            "fnuz": 2 ** (exponent_bits + mantissa_bits) - 1,
            "none": 2 ** (exponent_bits + mantissa_bits) - 1,
        }[fmt.specials]
        self.magnitudes = [self.magnitude(code) for code in range(top + 2)]  # one more, as if exponents went on
        self.most = {1: top, -1: top if fmt.signed else 0}
        self.overflow = {sign: self.limit(sign) for sign in (1, -1)}
        self.nan_code = {
            "ieee": (2**exponent_bits - 1) * 2**mantissa_bits + 2 ** max(mantissa_bits - 1, 0) if mantissa_bits else None,
            "finite_nan": top + 1,
            "p3109": top + 2,
            "fnuz": top + 1,
            "none": None,
        }[fmt.specials]

    def magnitude(self, code: int) -> int:
        field, fraction = divmod(code, 2**self.fmt.mantissa_bits)
        significand = fraction + (2**self.fmt.mantissa_bits if field else 0)
        return significand << (UNIT + max(field, 1) - self.fmt.bias - self.fmt.mantissa_bits)

    def limit(self, sign: int):
        """What overflow gives: units, or a float for infinity and NaN."""
        if not self.fmt.signed and sign < 0:
            return math.nan if self.fmt.overflow != "saturate" and self.fmt.has_nan else 0
        if self.fmt.overflow == "saturate":
            return sign * self.magnitudes[-2]
        return sign * math.inf if self.fmt.overflow == "infinity" else math.nan

    def index(self, magnitude: int, sign: int, mode: str, random: int = 0, random_bits: int = 0) -> int:
        """Of the magnitude that the mode picks; most + 1 for overflow."""
        last = len(self.magnitudes) - 1
        i = min(bisect.bisect_right(self.magnitudes, magnitude) - 1, last)
        if i == last:  # beyond all that are listed
            return i
        low, high = self.magnitudes[i], self.magnitudes[i + 1]
        if magnitude == low:
            return i
        if mode == "nearest_even":
            twice = 2 * magnitude - low - high
            return i + (twice > 0 or (twice == 0 and i % 2 == 1))
        if mode == "nearest_away":
            return i + (2 * magnitude >= low + high)
        if mode in ("up", "down"):
            return i + ((mode == "up") == (sign > 0))
        if mode == "to_odd":
            return i + (i % 2 == 0)
        if mode == "stochastic":
            share = ((magnitude - low) * 2 ** (random_bits + 1) + (high - low)) // (2 * (high - low))  # rounded, half up
            return i + (random + share >= 2**random_bits)
        return i

    def round(self, x: float, mode: str, random: int = 0, random_bits: int = 0) -> float:
        """As a float64, which may be a signed zero, infinite or NaN."""
        if math.isnan(x):
            return x
        sign = -1 if math.copysign(1, x) < 0 else 1
        if math.isinf(x):
            return self.as_float(self.overflow[sign], sign)
        i = self.index(abs(units(x)), sign, mode, random, random_bits)
        if i > self.most[sign]:
            towards_zero = mode in ("toward_zero", "to_odd") or (mode == "up" and sign < 0) or (mode == "down" and sign > 0)
            if not towards_zero:
                return self.as_float(self.overflow[sign], sign)
            i = self.most[sign]
        if self.fmt.kind == "float" and self.fmt.subnormals == "flush" and i < 2**self.fmt.mantissa_bits:
            i = 0
        return self.as_float(sign * self.magnitudes[i], sign)

    def as_float(self, value, sign: int) -> float:
        if isinstance(value, float):
            return value
        number = math.ldexp(abs(value), -UNIT) if abs(value) < 2**60 else abs(value) / 2**UNIT
        keeps_sign = number != 0 or self.fmt.has_negative_zero
        return math.copysign(number, sign) if keeps_sign else 0.0

    def code(self, value: float) -> int:
        """Of a value of the format."""
        fmt = self.fmt
        sign_bit = 2 ** (fmt.bits - 1) if fmt.signed else 0
        if math.isnan(value):
            return self.nan_code
        sign = -1 if math.copysign(1, value) < 0 else 1
        magnitude_code = self.most[1] + 1 if math.isinf(value) else bisect.bisect_left(self.magnitudes, abs(units(value)))
        if fmt.kind == "integer":
            return (sign * magnitude_code) % 2**fmt.bits
        return magnitude_code + (sign_bit if sign < 0 else 0)

    def cuts(self, mode: str, sign: int) -> list[int]:
        """For each i > 0 the float32 word of the least magnitude that becomes magnitudes[i] or more; found by trying."""
        words = []
        for low, high in zip(self.magnitudes, self.magnitudes[1:]):
            first, last = word_at_or_below(low), word_at_or_below(high) + 1
            i = len(words)
            while first < last:  # least word whose index is beyond i
                middle = (first + last) // 2
                if middle < 0x7F800000 and self.index(abs(units(float_of_word(middle))), sign, mode) <= i:
                    first = middle + 1
                else:
                    last = middle
            words.append(first)
        return words


def float_of_word(word: int) -> float:
    return float(np.uint32(word).view(np.float32))


def word_at_or_below(value: int) -> int:
    """The float32 word of the greatest float32 that is at most a number of units."""
    if value >= units(float(np.finfo(np.float32).max)):
        return 0x7F7FFFFF
    number = np.float32(value / 2**UNIT if value >= 2**60 else math.ldexp(value, -UNIT))
    word = int(number.view(np.uint32))
    return word if units(float(number)) <= value else word - 1


def telling_inputs(oracle: Oracle, dtype=np.float32, most: int = 600) -> np.ndarray:
    """Every number, every midpoint, the neighbours of both in dtype, of both signs; specials; all powers of two. Thinned out where there are many."""
    magnitudes = oracle.magnitudes
    if len(magnitudes) > most:
        step = len(magnitudes) // most
        kept = sorted({*range(0, len(magnitudes), step), *range(40), *range(len(magnitudes) - 40, len(magnitudes))})
        pairs = [(magnitudes[i], magnitudes[min(i + 1, len(magnitudes) - 1)]) for i in kept]
    else:
        pairs = list(zip(magnitudes, [*magnitudes[1:], magnitudes[-1]]))
    numbers = {value / 2 ** (UNIT + 1) for low, high in pairs for value in (2 * low, low + high)}
    with np.errstate(over="ignore"):
        exact = np.array(sorted(numbers), np.float64).astype(dtype)
    info = np.finfo(dtype)
    powers = (2.0 ** np.arange(max(-149, np.log2(float(info.smallest_subnormal))), np.log2(float(info.max)) - 1)).astype(dtype)
    specials = np.array([0, info.max, info.tiny, info.smallest_subnormal, np.inf, np.nan], dtype)
    positive = np.concatenate([exact, np.nextafter(exact, dtype(0)), np.nextafter(exact, dtype(np.inf)), powers, specials])
    return np.concatenate([positive, -positive])


def same(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Elementwise: equal in value and sign, NaN equal to NaN."""
    return (np.isnan(got) & np.isnan(want)) | ((got == want) & (np.signbit(got) == np.signbit(want)))
