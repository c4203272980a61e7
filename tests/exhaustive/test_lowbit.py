# Contract: every one of the 2^32 float32 rounds as defined, in every deterministic mode. Run by
#     python -m pytest -m long tests/exhaustive
# which takes some ten CPU seconds for each format and mode. Rounding is monotone, so the oracle is a list of cuts, each found by exact integers
# (tests/python/lowbit_oracle.py); between two cuts all results must be one number.
from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from lowbit_oracle import DETERMINISTIC, Oracle

from slipstick import lowbit

pytestmark = pytest.mark.long

FORMATS = {
    **{name: lowbit.format(name) for name in ("e5m2", "e4m3fn", "e4m3fnuz", "e3m2", "e2m3", "e2m1", "bf16", "fp16", "int8")},
    "e4m3fn to nan": lowbit.format("e4m3fn").replace(overflow="nan"),
}
CHUNK = 1 << 22
INFINITY = 0x7F800000


def word_of(value):
    with np.errstate(over="ignore"):
        return int(np.float32(value).view(np.uint32))


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("name", FORMATS)
def test_every_float32(name, mode):
    fmt = FORMATS[name]
    oracle = Oracle(fmt)
    for sign in (1, -1):
        sign_bit = 0 if sign > 0 else 0x80000000
        starts = np.array([0, *oracle.cuts(mode, sign), INFINITY], np.int64)
        # The result at the first word of each stretch is that of the definition, and all others of the stretch equal it.
        first = (starts | sign_bit).astype(np.uint32).view(np.float32)
        results = np.array([word_of(oracle.round(float(x), mode)) for x in first], np.uint32)
        for low in range(0, INFINITY + 1, CHUNK):
            high = min(low + CHUNK, INFINITY + 1)
            ends = np.clip(np.append(starts[1:], INFINITY + 1), low, high)
            want = np.repeat(results, ends - np.clip(starts, low, high))
            x = np.arange(low, high, dtype=np.uint32) | np.uint32(sign_bit)
            got = lowbit.quantize(x.view(np.float32), fmt, rounding=mode).view(np.uint32)
            nan = (want & 0x7FFFFFFF) > INFINITY
            wrong = np.flatnonzero((got != want) & ~(nan & ((got & 0x7FFFFFFF) > INFINITY)))
            assert wrong.size == 0, (
                f"{wrong.size} in 2^22, the first {x[wrong[0]]:#x}: got {got[wrong[0]]:#x}; expected {want[wrong[0]]:#x}"
            )
        for low in range(INFINITY + 1, 0x80000000, CHUNK):
            x = np.arange(low, min(low + CHUNK, 0x80000000), dtype=np.uint32) | np.uint32(sign_bit)
            assert np.isnan(lowbit.quantize(x.view(np.float32), fmt, rounding=mode)).all()


@pytest.mark.parametrize("mode", DETERMINISTIC)
def test_every_float32_becomes_a_power_of_two(mode):
    """E8M0, whose code i is 2^(i - 127): the word of a power is 0x400000 or its exponent alone, that of a middle 0x400000 more (0x200000 at first)."""
    words = np.array([0x400000, *(i << 23 for i in range(1, 255))], np.int64)
    middles = words[:-1] + np.where(np.arange(254) == 0, 0x200000, 0x400000)
    even = np.arange(254) % 2 == 0
    starts = {  # of what becomes the upper of two neighbours
        "nearest_even": middles + even,
        "nearest_away": middles,
        "toward_zero": words[1:],
        "down": words[1:],
        "up": words[:-1] + 1,
        "to_odd": np.where(even, words[:-1] + 1, words[1:]),
    }[mode]
    for low in range(0, 0x80000000, CHUNK):
        x = np.arange(low, low + CHUNK, dtype=np.uint32)
        got = lowbit.quantize(x.view(np.float32), "e8m0", rounding=mode).view(np.uint32)
        numbers = max(0, min(CHUNK, INFINITY + 1 - low))
        bounds = np.clip([0, *starts, INFINITY + 1], low, low + numbers)
        want = np.repeat(words, np.diff(bounds))
        wrong = np.flatnonzero(got[:numbers] != want)
        assert wrong.size == 0, f"{x[wrong[0]]:#x}: got {got[wrong[0]]:#x}; expected {want[wrong[0]]:#x}"
        assert np.isnan(got[numbers:].view(np.float32)).all()
        negative = lowbit.quantize((x | np.uint32(0x80000000)).view(np.float32), "e8m0", rounding=mode)
        assert (negative[:numbers] == 2.0**-127).all() and np.isnan(negative[numbers:]).all()
