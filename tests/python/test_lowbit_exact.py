# Contract: quantize picks the number that the definition of format and mode names, encode gives its code, decode gives it back; whatever the type,
# the strides, the threads and the instruction set. The oracle, lowbit_oracle.py, lists a format's numbers and compares integers.
from __future__ import annotations

import functools

import numpy as np
import pytest
from lowbit_oracle import DETERMINISTIC, UNIT, Oracle, same, telling_inputs, units

import slipstick
from slipstick import lowbit
from slipstick._core import philox4x32
from slipstick.lowbit import Format

pytestmark = pytest.mark.kernel

NAMES = (
    "e5m2 e4m3fn e4m3 e3m4 e4m3fnuz e5m2fnuz e4m3b11fnuz e3m2 e2m3 e2m1 binary8p4 binary8p3 bf16 fp16 "
    "e5m0 e4m0 e7m0 e8m0 e8m2 e6m5 e1m2 e2m1finite e0m3finite int8 uint8 int4 int2 fixed8.6 fixed16.8"
)
FORMATS = {
    **{name: lowbit.format(name) for name in NAMES.split() if name != "e8m0"},
    "e4m3 flushing": Format(4, 3, subnormals="flush"),
    "bf16 flushing": Format(8, 7, subnormals="flush"),
    "e4m3fn to nan": Format(4, 3, specials="finite_nan", overflow="nan"),
    "e4m3fnuz to nan": Format(4, 3, specials="fnuz", overflow="nan"),
    "e5m2 saturating": Format(5, 2, overflow="saturate"),
    "e5m2 to nan": Format(5, 2, overflow="nan"),
    "unsigned e4m4": Format(4, 4, signed=False),
    "unsigned e4m4 to nan": Format(4, 4, signed=False, overflow="nan"),
    "symmetric int8": Format.integer(8, symmetric=True),
    "powers of two": Format(8, 0),
    "far up": Format(4, 3, bias=-100, specials="none"),
    "far down": Format(3, 2, bias=125, specials="none"),
}


def wanted(oracle, x, mode):
    return np.array([oracle.round(float(v), mode) for v in x])


@pytest.mark.parametrize("name", FORMATS)
def test_every_number_midpoint_and_neighbour_rounds_as_defined_in_every_mode(name):
    fmt = FORMATS[name]
    oracle = Oracle(fmt)
    x = telling_inputs(oracle, most=100)
    for mode in DETERMINISTIC:
        want = wanted(oracle, x, mode)
        got = lowbit.quantize(x, fmt, rounding=mode)
        wrong = np.flatnonzero(~same(got, want))
        assert wrong.size == 0, f"{mode}: {x[wrong[:5]]} became {got[wrong[:5]]}; expected {want[wrong[:5]]}"
        known = x if fmt.has_nan else x[~np.isnan(x)]
        want = want if fmt.has_nan else want[~np.isnan(x)]
        codes = lowbit.encode(known, fmt, rounding=mode)
        numbers = ~np.isnan(want)
        np.testing.assert_array_equal(codes[numbers], [oracle.code(value) for value in want[numbers]])
        assert same(lowbit.decode(codes, fmt), want).all()


@pytest.mark.parametrize("name", [name for name, fmt in FORMATS.items() if fmt.bits <= 16])
def test_every_code_decodes_and_comes_back(name):
    fmt = FORMATS[name]
    codes = np.arange(2**fmt.bits).astype(fmt.code_dtype)
    numbers = lowbit.decode(codes, fmt)
    finite = np.isfinite(numbers)
    again = lowbit.encode(numbers[finite], fmt)
    subnormal = fmt.kind == "float" and fmt.subnormals == "flush"
    taken = ~(subnormal & (numbers[finite] == 0) & (codes[finite] & (2 ** (fmt.bits - 1) - 1) != 0))  # subnormal codes are 0
    if fmt.kind == "integer" and fmt.symmetric:
        taken &= codes[finite] != 2 ** (fmt.bits - 1)
    np.testing.assert_array_equal(again[taken], codes[finite][taken])
    oracle = Oracle(fmt)
    assert sorted({units(v) for v in numbers[finite]}) == [units(v) for v in fmt.values()]
    assert set(map(units, fmt.values())) <= {*oracle.magnitudes, *(-m for m in oracle.magnitudes)}


@pytest.mark.parametrize("name", ["e4m3fn", "bf16", "int8", "e4m3 flushing", "e5m0"])
def test_float64_rounds_once(name):
    oracle = Oracle(FORMATS[name])
    x = telling_inputs(oracle, np.float64, most=40)[::3]
    for mode in DETERMINISTIC:
        assert same(lowbit.quantize(x, FORMATS[name], rounding=mode), wanted(oracle, x, mode)).all(), mode


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1", "e4m3fnuz", "int8"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_all_numbers_of_half_types_round_as_their_float32(name, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    for mode in DETERMINISTIC:
        with np.errstate(invalid="ignore", over="ignore"):
            want = lowbit.quantize(x.astype(np.float32), name, rounding=mode).astype(dtype).astype(np.float32)
        got = lowbit.quantize(x, name, rounding=mode)
        assert got.dtype == x.dtype
        assert same(got.astype(np.float32), want).all(), mode


# ---- stochastic rounding --------------------------------------------------------------------------------------------------------------------


def random_number(i, seed, stream, bits):
    """Of element i: cpp/lowbit/philox.h, from the reference generator."""
    parts = 32 // bits
    tile, e = divmod(i, 64 * parts)
    block = 16 * tile + e % 16
    words = philox4x32((block & 0xFFFFFFFF, block >> 32, 0x6C6F7762, stream), (seed & 0xFFFFFFFF, seed >> 32))
    return words[e // 16 % 4] >> (bits * (e // 64)) & (2**bits - 1)


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("name", ["e4m3fn", "e2m1", "bf16", "int8", "e6m5", "e5m0", "e4m3 flushing"])
def test_stochastic_rounding_follows_the_random_number_of_the_position(name, bits):
    oracle = Oracle(FORMATS[name])
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(300) * 2.0 ** rng.integers(-12, 9, 300), telling_inputs(oracle, most=60)[:423]]).astype(
        np.float32
    )
    seed, stream = 2**63 + 12345, 7
    got = lowbit.quantize(x, FORMATS[name], rounding="stochastic", seed=seed, stream=stream, random_bits=bits)
    want = [oracle.round(float(v), "stochastic", random_number(i, seed, stream, bits), bits) for i, v in enumerate(x)]
    assert same(got, np.array(want)).all()


@functools.lru_cache
def random_numbers(count, seed, stream, bits):
    """random_number of the first elements: the rounds of Philox4x32-10 (Salmon et al. 2011) in NumPy."""
    parts = 32 // bits
    i = np.arange(count, dtype=np.uint64)
    tile, e = i // (64 * parts), i % (64 * parts)
    block, low = 16 * tile + e % 16, np.uint64(0xFFFFFFFF)
    counter = [block & low, block >> np.uint64(32), np.full(count, 0x6C6F7762, np.uint64), np.full(count, stream, np.uint64)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (second >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]), second & low,
            (first >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]), first & low,
        ]  # fmt: skip
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    words = np.choose((e // 16 % 4).astype(int), counter)
    return ((words >> (np.uint64(bits) * (e // 64))) & np.uint64(2**bits - 1)).astype(np.uint32)


@pytest.mark.parametrize(
    ("name", "low", "gap"), [("e4m3fn", 1.0, 0.125), ("e4m3fn", 2.0**-9, 2.0**-9), ("int8", 3.0, 1.0), ("bf16", 1.0, 2.0**-7)]
)
@pytest.mark.parametrize("bits", [8, 16])
def test_of_all_random_numbers_exactly_the_share_goes_up(name, low, gap, bits):
    count = 16 << bits
    numbers = random_numbers(count, 1, 0, bits)
    assert numbers[[0, 63, 64, 500, count - 1]].tolist() == [random_number(i, 1, 0, bits) for i in (0, 63, 64, 500, count - 1)]
    first = np.full(2**bits, -1)
    first[numbers[::-1]] = np.arange(count)[::-1]
    assert (first >= 0).all()
    whole = 2 ** (bits + 1)
    for share in (0, 1, 2, 3, 100, whole // 4, whole // 2 - 1, whole // 2, 300, whole - 1, whole):
        x = np.full(count, low + gap * share / whole, np.float32)
        up = lowbit.quantize(x, name, rounding="stochastic", seed=1, random_bits=bits)[first] > low
        kept = round((float(x[0]) - low) / gap * whole)  # float32 may hold fewer bits
        assert up.sum() == (kept + 1) // 2


def test_random_numbers_do_not_depend_on_threads_strides_or_the_array_behind():
    x = np.random.default_rng(1).standard_normal((300, 700)).astype(np.float32)
    options = {"rounding": "stochastic", "seed": 5, "random_bits": 16}
    want = lowbit.quantize(x, "e4m3fn", threads=1, **options)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(lowbit.quantize(x, "e4m3fn", threads=threads, **options), want)
    np.testing.assert_array_equal(lowbit.quantize(np.asfortranarray(x), "e4m3fn", **options), want)
    np.testing.assert_array_equal(lowbit.quantize(x[:100], "e4m3fn", **options), want[:100])
    assert (lowbit.quantize(x, "e4m3fn", **{**options, "stream": 1}) != want).any()
    assert (lowbit.quantize(x, "e4m3fn", **{**options, "seed": 6}) != want).any()


# ---- arrays ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 7, 8, 15, 17, 31, 33, 255, 257, 1023, 1025, 65537])
def test_lengths_around_every_vector_width_leave_their_neighbours_alone(count):
    x = np.random.default_rng(2).standard_normal(count + 2).astype(np.float32)
    want = np.concatenate([lowbit.quantize(x[i : i + 1], "e3m2") for i in range(min(count, 300) + 2)] or [x[:0]])
    for options in ({}, {"rounding": "down"}):
        whole = np.full(count + 2, 9.0, np.float32)
        lowbit.quantize(x[1:-1], "e3m2", out=whole[1:-1], **options)
        assert whole[0] == whole[-1] == 9
        if not options:
            np.testing.assert_array_equal(whole[1:-1][:298], want[1:-1][:298])
    codes = lowbit.encode(x[1:-1], "e3m2")
    np.testing.assert_array_equal(lowbit.decode(codes, "e3m2"), lowbit.quantize(x[1:-1], "e3m2"))


@pytest.mark.parametrize("rounding", ["nearest_even", "up", "stochastic"])
def test_results_past_the_caches_are_the_same(rounding):
    x = np.random.default_rng(3).standard_normal((3 << 20) + 5).astype(np.float32)
    parts = (
        [lowbit.quantize(x[i : i + (1 << 18)], "e4m3fn", rounding=rounding) for i in range(0, x.size, 1 << 18)]
        if rounding != "stochastic"
        else None
    )
    shifted = np.empty(x.size + 4, np.float32)
    for start in range(4):
        out = shifted[start : start + x.size] if start < 3 else np.empty_like(x)
        got = lowbit.quantize(x, "e4m3fn", rounding=rounding, out=out)
        assert got is out
        parts = parts or [lowbit.quantize(x.copy(), "e4m3fn", rounding=rounding, out=x.copy())]
        np.testing.assert_array_equal(got, np.concatenate(parts))
    codes = lowbit.encode(x, "e4m3fn", rounding=rounding)
    np.testing.assert_array_equal(lowbit.decode(codes, "e4m3fn"), np.concatenate(parts))
    for start in range(4):
        shifted[:] = 9
        out = shifted[start : start + x.size]
        assert lowbit.decode(codes, "e4m3fn", out=out) is out
        np.testing.assert_array_equal(out, np.concatenate(parts))
        assert (shifted[:start] == 9).all() and (shifted[start + x.size :] == 9).all()


def test_in_place_strided_and_overlapping_outputs():
    x = np.random.default_rng(4).standard_normal((40, 30)).astype(np.float32)
    want = lowbit.quantize(x, "e2m1")
    y = x.copy()
    assert lowbit.quantize(y, "e2m1", out=y) is y
    np.testing.assert_array_equal(y, want)
    strided = np.zeros((80, 60), np.float32)[::2, ::-2]
    np.testing.assert_array_equal(lowbit.quantize(x.T, "e2m1", out=strided.T), want.T)
    np.testing.assert_array_equal(strided, want)
    np.testing.assert_array_equal(lowbit.quantize(x[::3, ::-1], "e2m1"), want[::3, ::-1])
    line = np.concatenate([x.ravel(), [0]]).astype(np.float32)
    lowbit.quantize(line[:-1], "e2m1", out=line[1:])
    np.testing.assert_array_equal(line[1:], want.ravel())
    np.testing.assert_array_equal(lowbit.quantize(x.astype(">f4"), "e2m1"), want)
    scalar = lowbit.quantize(np.float32(3.2), "e2m1")
    assert scalar.shape == () and scalar == 3


def test_flush_to_zero_of_the_processor_changes_nothing():
    x = np.float32([1e-40, 2.0**-133, 3 * 2.0**-134])
    want = lowbit.quantize(x, "bf16").tolist()
    assert want == [float(v) for v in map(Oracle(lowbit.format("bf16")).round, map(float, x), ["nearest_even"] * 3)]
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("no flush to zero here")
    try:
        flushed = [lowbit.quantize(x, "bf16", rounding=mode).view(np.uint32) for mode in DETERMINISTIC]
    finally:
        torch.set_flush_denormal(False)
    assert flushed[0].view(np.float32).tolist() == want
    for mode, words in zip(DETERMINISTIC, flushed):
        np.testing.assert_array_equal(words, lowbit.quantize(x, "bf16", rounding=mode).view(np.uint32))


def test_instruction_sets_agree_bit_for_bit():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    results = {}
    before = slipstick.isa()
    try:
        for level in slipstick.config()["isa_levels"]:
            slipstick.set_isa(level)
            results[level] = [
                lowbit.quantize(x, fmt, rounding=mode, random_bits=16).view(np.uint32)
                for fmt in ("e4m3fn", "e8m2", "int8", "nf4", "e4m3fnuz")
                for mode in lowbit.ROUNDINGS
            ]
    finally:
        slipstick.set_isa(before)
    first, *others = results.values()
    for other in others:
        for a, b in zip(first, other):
            np.testing.assert_array_equal(a, b)


def test_units_of_the_oracle_are_exact():
    assert units(1.0) == 1 << UNIT and units(5e-324) == 1
