# Contract: a code book gives the neighbour that the mode names, by exact comparison with midpoints or thresholds; posits round as their standard
# says; powers and logarithms in their own domain. Oracle: fractions.
from __future__ import annotations

import bisect
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from lowbit_oracle import DETERMINISTIC

from slipstick import lowbit
from slipstick.lowbit import Format

pytestmark = pytest.mark.kernel


def picked(x, values, codes, mode):
    """Index of the value that a deterministic mode picks for a finite x."""
    x = Fraction(x)
    i = bisect.bisect_right(values, x) - 1
    if i < 0:
        return 0
    if i == len(values) - 1 or values[i] == x:
        return i
    low, high = values[i], values[i + 1]
    smaller = 0 if abs(low) <= abs(high) else 1  # of magnitude; the lower one of equals
    if mode in ("nearest_even", "nearest_away"):
        twice = 2 * x - low - high
        if twice == 0:
            odd = (codes[i] % 2, codes[i + 1] % 2)
            return i + (1 - smaller if mode == "nearest_away" else odd.index(0) if sum(odd) == 1 else smaller)
        return i + (twice > 0)
    if mode == "to_odd":
        odd = (codes[i] % 2, codes[i + 1] % 2)
        return i + (odd.index(1) if sum(odd) == 1 else smaller)
    return i + {"toward_zero": smaller, "up": 1, "down": 0}[mode]


BOOKS = {
    "nf4": (None, None),
    "one value": ([2.5], [1]),
    "two values": ([-1.0, 3.0], [0, 1]),
    "far apart": ([-3e38, -1e-30, 1e-44, 2.0, 2.0000002, 3e38], [5, 4, 3, 2, 1, 0]),
    "no zero": ([-2.0, -1.0, 1.0, 2.0], [3, 2, 0, 1]),
    "256 values": (sorted(np.random.default_rng(0).standard_normal(256).astype(np.float32).tolist()), list(range(256))),
}


@pytest.mark.parametrize("name", BOOKS)
def test_every_value_midpoint_and_neighbour(name):
    values, codes = BOOKS[name]
    fmt = lowbit.format("nf4") if values is None else Format.codebook(values, codes=codes)
    if values is None:
        values, codes = fmt.values().tolist(), list(range(16))
    exact = [Fraction(float(np.float32(v))) for v in values]
    middles = [np.float32(float((a + b) / 2)) for a, b in itertools.pairwise(exact)]
    x = np.float32([*values, *middles, 0.0, 3.4e38, 1e-45])
    x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf)), -x])
    x = x[np.isfinite(x)]
    for mode in DETERMINISTIC:
        index = [picked(float(v), exact, codes, mode) for v in x]
        np.testing.assert_array_equal(lowbit.quantize(x, fmt, rounding=mode), np.float32(values)[index])
        np.testing.assert_array_equal(lowbit.encode(x, fmt, rounding=mode), np.array(codes)[index])
    np.testing.assert_array_equal(lowbit.decode(np.array(codes, fmt.code_dtype), fmt), np.float32(values))
    np.testing.assert_array_equal(lowbit.quantize(np.float32([np.inf, -np.inf]), fmt), np.float32([values[-1], values[0]]))


def test_stochastic_rounding_in_a_code_book_is_unbiased_and_exact_at_values():
    fmt = lowbit.format("nf4")
    x = np.full(1 << 16, 0.3, np.float32)
    q = lowbit.quantize(x, fmt, rounding="stochastic", seed=3)
    low, high = (v for v in fmt.values() if v in q)
    assert low < 0.3 < high
    share = (q == high).mean()
    expected = (0.3 - low) / (high - low)
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / x.size)
    np.testing.assert_array_equal(lowbit.quantize(fmt.values(), fmt, rounding="stochastic"), fmt.values())


def test_nan_stays_nan_and_is_refused_or_coded():
    x = np.float32([1.0, np.nan])
    assert np.isnan(lowbit.quantize(x, "nf4")[1])
    with pytest.raises(ValueError, match=r"encode: x holds NaN \(1 times\), which the format has no code for"):
        lowbit.encode(x, "nf4")
    assert lowbit.encode(x, "e8m0").tolist() == [127, 255]
    assert np.isnan(lowbit.decode(np.uint8([255]), "e8m0")[0])


def test_e8m0_holds_powers_of_two_from_the_smallest():
    assert lowbit.format("e8m0").values().tolist() == [2.0**k for k in range(-127, 128)]
    assert lowbit.quantize(np.float32([0.0, -3.0, 3.0, 3.1, 6.0, 1e38]), "e8m0").tolist() == [2.0**-127, 2.0**-127, 2.0, 4.0, 8.0, 2.0**126]


# ---- posits -----------------------------------------------------------------------------------------------------------------------------------


def posit(code, bits, es):
    """Value of a code by the formula of the standard of 2022: ((1 - 3s) + f) 2^((1 - 2s)(2^es r + e + s)); None for NaR."""
    if code == 0:
        return Fraction(0)
    if code == 1 << (bits - 1):
        return None
    text = format(code, f"0{bits}b")
    s, body = int(text[0]), text[1:]
    run = len(body) - len(body.lstrip(body[0]))
    r = run - 1 if body[0] == "1" else -run
    rest = body[run + 1 :] + "0" * (es + 1)
    e, f = int(rest[:es] or "0", 2), Fraction(int(rest[es:], 2), 1 << (len(rest) - es))
    return ((1 - 3 * s) + f) * Fraction(2) ** ((1 - 2 * s) * ((r << es) + e + s))


@pytest.mark.parametrize(("bits", "es"), [(3, 0), (4, 1), (6, 2), (8, 0), (8, 2), (16, 1), (16, 2)])
def test_posits_have_the_values_and_the_rounding_of_their_standard(bits, es):
    fmt = Format.posit(bits, es)
    codes = np.arange(1 << bits).astype(fmt.code_dtype)
    values = lowbit.decode(codes, fmt)
    step = max(1, len(codes) // 500)
    for code in [*range(0, len(codes), step), len(codes) - 1]:
        want = posit(code, bits, es)
        assert math.isnan(values[code]) if want is None else Fraction(float(values[code])) == want
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(lowbit.encode(values[numbers], fmt), codes[numbers])
    # Between two codes the standard compares with the posit of one bit more; a tie goes to the even code.
    for code in range(1, (1 << (bits - 1)) - 1, step):
        threshold = posit(2 * code + 1, bits + 1, es)
        at = np.float32(float(threshold))
        assert Fraction(float(at)) == threshold
        x = np.float32([np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(np.inf))])
        assert lowbit.encode(x, fmt).tolist() == [code, code + code % 2, code + 1]
        assert lowbit.encode(-x, fmt).tolist() == [(1 << bits) - c for c in (code, code + code % 2, code + 1)]
    tiny, huge = np.float32([1e-45, -1e-45]), np.float32([3e38, -3e38, np.inf, -np.inf])
    greatest = 2.0 ** ((bits - 2) << es)
    assert lowbit.quantize(tiny, fmt).tolist() == [1 / greatest, -1 / greatest]
    assert lowbit.quantize(huge, fmt).tolist() == [greatest, -greatest, greatest, -greatest]
    assert lowbit.encode(np.float32([np.nan]), fmt).tolist() == [1 << (bits - 1)]


# ---- powers and logarithms --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "exponent"), [(4, 0.5), (8, 0.55), (3, 1.0), (8, 2.0)])
def test_the_power_quantizer_rounds_the_power(bits, exponent):
    fmt = Format.power(bits, exponent)
    most = 2 ** (bits - 1) - 1
    x = np.random.default_rng(1).uniform(-1, 1, 5000).astype(np.float32)
    exact = np.abs(x.astype(np.float64)) ** exponent * most
    sure = np.abs(exact % 1 - 0.5) > 1e-9
    level = np.sign(x) * np.round(exact)
    want = np.sign(level) * (np.abs(level) / most) ** (1 / exponent)
    np.testing.assert_array_equal(lowbit.quantize(x, fmt)[sure], want.astype(np.float32)[sure])
    np.testing.assert_array_equal(lowbit.encode(x, fmt)[sure], level[sure].astype(np.int64) % 2**bits)


def test_logarithmic_formats_round_the_logarithm():
    fmt = Format.logarithmic(8, fraction_bits=3, greatest=4.0)
    x = np.exp2(np.random.default_rng(2).uniform(-13, 2, 5000)).astype(np.float32)
    steps = (2 - np.log2(x.astype(np.float64))) * 8
    sure = np.abs(steps % 1 - 0.5) > 1e-9
    want = (4 * 2 ** (-np.round(steps) / 8)).astype(np.float32)
    np.testing.assert_array_equal(lowbit.quantize(-x, fmt)[sure], -want[sure])
    assert fmt.max == 4 and fmt.min == -4 and lowbit.quantize(np.float32([0.0]), fmt)[0] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Format.codebook([]), "values has 0 entries"),
        (lambda: Format.codebook([1.0, 1.0]), r"values\[1\] is not above the one before it"),
        (lambda: Format.codebook([0.0, math.inf]), r"values\[1\] is not finite"),
        (lambda: Format.codebook([0.0, 1e39]), "values has 1e\\+39; expected numbers of float32"),
        (lambda: Format.codebook([0.0, 1.0], codes=[1, 1]), "codes holds 1 twice"),
        (lambda: Format.codebook([0.0, 1.0], codes=[0, 4], bits=2), r"codes\[1\] has more than bits bits"),
        (lambda: Format.codebook([0.0, 1.0], codes=[0]), "codes has 1 entries; expected 2"),
        (lambda: Format.codebook([0.0, 1.0], nan_code=1), "nan_code is 1; expected a code of bits bits that no value has"),
        (lambda: Format.codebook([0.0, 1.0], thresholds=[0.1, 0.2]), "thresholds has 2 entries; expected 1"),
        (
            lambda: Format.codebook([0.0, 1.0], thresholds=[1.5]),
            r"thresholds\[0\] is 1\.5\d*; expected a number between values\[0\] and the next",
        ),
        (lambda: Format.codebook([0.0, 1.0], thresholds=[math.nan]), r"thresholds\[0\] is -?nan; expected a number between"),
        (lambda: Format.codebook([0.0, 1.0, 2.0], thresholds=[0.5, 0.5]), r"thresholds\[1\] is 0\.5\d*; expected a number between"),
        (lambda: Format.posit(17), "bits is 17; expected 3 to 16"),
        (lambda: Format.posit(16, 4), "es is 4; expected 0 or more, and numbers within float32"),
        (lambda: Format.power(8, 0.0), "exponent is 0.0; expected a positive number"),
        (lambda: Format.logarithmic(16), "reach beyond float32"),
    ],
)
def test_bad_code_books_say_why(call, message):
    with pytest.raises(ValueError, match=message):
        call()
