# Contract: formats have the properties that their standards print, names find them, and descriptions that contradict themselves or reach beyond
# float32 are refused with the reason. Figures: OCP's OFP8 and MX texts as ml_dtypes has them; ml_dtypes itself where it is installed.
from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

from slipstick import UnsupportedError, lowbit
from slipstick._core import lowbit as _core
from slipstick.lowbit import Format


@pytest.mark.parametrize(
    ("name", "greatest", "normal", "subnormal", "infinity", "nan"),
    [
        ("e5m2", 57344, 2.0**-14, 2.0**-16, True, True),
        ("e4m3fn", 448, 2.0**-6, 2.0**-9, False, True),
        ("e4m3", 240, 2.0**-6, 2.0**-9, True, True),
        ("e3m4", 15.5, 2.0**-2, 2.0**-6, True, True),
        ("e4m3fnuz", 240, 2.0**-7, 2.0**-10, False, True),
        ("e5m2fnuz", 57344, 2.0**-15, 2.0**-17, False, True),
        ("e4m3b11fnuz", 30, 2.0**-10, 2.0**-13, False, True),
        ("e3m2", 28, 2.0**-2, 2.0**-4, False, False),
        ("e2m3", 7.5, 1, 2.0**-3, False, False),
        ("e2m1", 6, 1, 0.5, False, False),
        ("bf16", 3.3895313892515355e38, 2.0**-126, 2.0**-133, True, True),
        ("fp16", 65504, 2.0**-14, 2.0**-24, True, True),
        ("tf32", (2 - 2.0**-10) * 2.0**127, 2.0**-126, 2.0**-136, True, True),
        ("binary8p3", 49152, 2.0**-15, 2.0**-17, True, True),
        ("binary8p4", 224, 2.0**-7, 2.0**-10, True, True),
        ("int8", 127, 0, 1, False, False),
        ("fixed8.6", 127 / 64, 0, 2.0**-6, False, False),
    ],
)
def test_properties(name, greatest, normal, subnormal, infinity, nan):
    fmt = lowbit.format(name)
    assert (fmt.max, fmt.smallest_normal, fmt.smallest_subnormal, fmt.has_infinity, fmt.has_nan) == (
        greatest,
        normal,
        subnormal,
        infinity,
        nan,
    )
    assert fmt.min == (-128 * subnormal if fmt.kind == "integer" else -greatest)
    assert fmt.tiny == fmt.smallest_normal


def test_all_numbers_of_fp4():
    assert lowbit.format("e2m1").values().tolist() == [-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6]


@pytest.mark.parametrize(
    "name", ["e5m2", "e4m3fn", "e4m3", "e3m4", "e4m3fnuz", "e5m2fnuz", "e4m3b11fnuz", "e3m2fn", "e2m3fn", "e2m1fn", "e8m0fnu"]
)
def test_codes_mean_what_ml_dtypes_says(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    fmt = lowbit.format(name)
    dtype = getattr(ml_dtypes, f"float{8 if name == 'e8m0fnu' else fmt.bits}_{name}")
    codes = np.arange(2**fmt.bits, dtype=np.uint8)
    want = codes.view(dtype).astype(np.float32)
    got = lowbit.decode(codes, fmt)
    np.testing.assert_array_equal(got, want)  # NaN in equal places
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(want[~np.isnan(want)]))
    info = ml_dtypes.finfo(dtype)
    assert fmt.max == float(info.max)
    assert lowbit.format(np.dtype(dtype)) == fmt
    if name != "e8m0fnu":
        assert fmt.smallest_normal == float(info.smallest_normal) and fmt.smallest_subnormal == float(info.smallest_subnormal)
        assert fmt.eps == float(info.eps)


def test_names_and_patterns():
    assert (
        lowbit.format("float8_e4m3fn")
        == lowbit.format("torch.float8_e4m3fn")
        == lowbit.format("e4m3fn")
        == Format(4, 3, specials="finite_nan")
    )
    assert lowbit.format("torch.float4_e2m1fn_x2") == lowbit.format("float4_e2m1fn") == lowbit.format("e2m1")
    assert lowbit.format("e5m10") == lowbit.format("fp16") == lowbit.format("float16") == Format(5, 10)
    assert lowbit.format("e4m3b8fnuz") == lowbit.format("e4m3fnuz")
    assert lowbit.format("posit8_1") == Format.posit(8, 1)
    assert lowbit.format("ufixed8.4") == Format.integer(8, fraction_bits=4, signed=False)
    fmt = lowbit.format("e4m3fn")
    assert lowbit.format(fmt) is fmt and lowbit.format(fmt.spec) == fmt and repr(fmt) == "<Format e4m3fn: 8 bits, -448 to 448>"
    assert "e4m3fn" in lowbit.names()
    for name in lowbit.names():
        assert lowbit.format(name).bits >= 4
    with pytest.raises(ValueError, match=r"lowbit.format: fmt is 'e4m3xx'; expected a preset"):
        lowbit.format("e4m3xx")
    with pytest.raises(TypeError, match=r"lowbit.format: fmt is a float; expected a Format or the name of one"):
        lowbit.format(4.3)


def test_formats_are_values():
    fmt = Format(4, 3, name="mine")
    for other in (copy.copy(fmt), copy.deepcopy(fmt), pickle.loads(pickle.dumps(fmt))):
        assert other == fmt and hash(other) == hash(fmt) and other.name == "mine"
    assert fmt.replace(overflow="saturate").overflow == "saturate" and fmt.replace(overflow="saturate") != fmt
    assert fmt.exponent_bits == 4 and fmt.mantissa_bits == 3 and fmt.bias == 7 and fmt.kind == "float" and fmt.signed
    with pytest.raises(AttributeError, match="Format has no settable attribute 'bias'"):
        fmt.bias = 3
    with pytest.raises(AttributeError, match="has no attribute 'fraction_bits'"):
        fmt.fraction_bits
    with pytest.raises(TypeError, match="cannot change 'digits'"):
        fmt.replace(digits=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Format(0, 0), "exponent_bits and mantissa_bits are 0"),
        (lambda: Format(9, 3), "exponent_bits is 9; expected 0 to 8"),
        (lambda: Format(-1, 3), "exponent_bits is -1; expected 0 to 8"),
        (lambda: Format(4, 24), "mantissa_bits is 24; expected 0 to 23"),
        (lambda: Format(8, 3, specials="none"), r"the greatest exponent is 128 \(bias 127\); expected at most 127, the one of float32"),
        (lambda: Format(8, 3, specials="fnuz"), r"the smallest normal exponent is -127 \(bias 128\); expected at least -126"),
        (lambda: Format(4, 3, bias=2**40), "bias is 1099511627776; expected a number of 32 bits"),
        (lambda: Format(0, 3), "specials is 'ieee' without exponent_bits"),
        (lambda: Format(1, 0), "no code is left for a number besides 0"),
        (lambda: Format(4, 3, specials="fnuz", signed=False), "specials take the code of -0, but signed is false"),
        (lambda: Format(4, 3, specials="finite_nan", overflow="infinity"), "overflow is 'infinity', which the format has no code for"),
        (lambda: Format(2, 1, specials="none", overflow="nan"), "overflow is 'nan', which the format has no code for"),
        (lambda: Format(4, 3, specials="nan"), "specials is 'nan'; expected one of ieee, finite_nan, fnuz, p3109, none"),
        (lambda: Format(4, 3, subnormals="drop"), "subnormals is 'drop'; expected one of keep, flush"),
        (lambda: Format(0, 3, specials="none", subnormals="flush"), "all values are subnormal and subnormals are flushed"),
        (lambda: Format(3, 0, bias=-119, specials="none"), r"the quantum is 2\^120; expected at most 2\^104"),
        (lambda: Format.codebook([1.0, 2.0], nan_code=-5), "nan_code is -5; expected 0 or more, or None"),
        (lambda: lowbit.format('{"kind":"scaled"}'), "a spec without 'block'"),
        (lambda: lowbit.format("{}"), "a spec without 'kind'"),
        (lambda: lowbit.format("{"), "a spec that is no JSON"),
        (lambda: Format.integer(0), "bits is 0; expected 2 to 24"),
        (lambda: Format.integer(25), "bits is 25; expected 2 to 24"),
        (lambda: Format.integer(8, signed=False, symmetric=True), "symmetric is true, but signed is false"),
        (lambda: Format.integer(8, fraction_bits=200), "fraction_bits is 200; expected -100 to 120"),
    ],
)
def test_bad_formats_say_why(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: lowbit.quantize(x, "e4m3fn", rounding="even"), ValueError, "quantize: rounding is 'even'; expected one of nearest_even"),
        (lambda x: lowbit.quantize(x, "e4m3fn", seed=-1), ValueError, r"quantize: seed is -1; expected 0 to 2\^64 - 1"),
        (lambda x: lowbit.quantize(x, "e4m3fn", stream=2**32), ValueError, "quantize: stream is 4294967296"),
        (lambda x: lowbit.quantize(x, "e4m3fn", random_bits=9), ValueError, "quantize: random_bits is 9; expected 8, 16 or 32"),
        (
            lambda x: lowbit.quantize(x, "e4m3fn", threads=0),
            ValueError,
            "quantize: threads is 0; expected a whole number from 1 to 1024, or None",
        ),
        (lambda x: lowbit.quantize(x, "e4m3fn", seed=1.5), TypeError, "quantize: seed is 1.5; expected a whole number"),
        (
            lambda x: lowbit.quantize(x.astype(int), "e4m3fn"),
            TypeError,
            "quantize: x has dtype int64; expected float32, float64, bfloat16, float16",
        ),
        (
            lambda x: lowbit.quantize(x, "e4m3fn", out=x[:2]),
            ValueError,
            r"quantize: out is float32 of shape \(2,\); expected float32 of shape \(4,\)",
        ),
        (lambda x: lowbit.quantize(x, "e4m3fn", out=[1]), TypeError, "quantize: out is a list; expected a NumPy array"),
        (
            lambda x: lowbit.quantize(x.astype(float), "e8m23"),
            UnsupportedError,
            "quantize: x is float64 and the format has 23 mantissa bits",
        ),
        (lambda x: lowbit.encode(x + np.nan, "int8"), ValueError, r"encode: x holds NaN \(4 times\), which the format has no code for"),
        (lambda x: lowbit.decode(x, "e4m3fn"), TypeError, "decode: codes has dtype float32; expected uint8"),
        (lambda x: lowbit.decode(np.uint8([1]), "e4m3fn", dtype="int8"), TypeError, "decode: dtype is int8; expected float32"),
        (lambda x: lowbit.decode(np.uint8([1]), "e4m3fn", dtype=None), TypeError, "decode: dtype is None; expected float32"),
        (lambda x: lowbit.unpack(np.uint8([1]), 4, 3), ValueError, "unpack: packed has 1 bytes"),
        (lambda x: lowbit.pack(np.uint8([1]), 9), ValueError, "pack: bits is 9; expected 1 to 8"),
        (lambda x: lowbit.format("e8m23").values(), ValueError, "has 32 bits; expected at most 16"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones(4, np.float32))


@pytest.mark.parametrize(
    ("name", "count", "call"),
    [
        ("rounding", 7, lambda value: _core.quantize(lowbit.format("e4m3fn")._core, value, 0, 0, 32, 0, 0, 0, 0, 1)),
        ("dtype", 4, lambda value: _core.quantize(lowbit.format("e4m3fn")._core, 0, 0, 0, 32, value, 0, 0, 0, 1)),
        ("dtype", 4, lambda value: _core.decode(lowbit.format("e4m3fn")._core, 0, value, 0, 0, 1)),
        ("specials", 5, lambda value: _core.float_format(True, 4, 3, 7, value, False, 0)),
        ("overflow", 3, lambda value: _core.float_format(True, 4, 3, 7, 0, False, value)),
        ("rule", 4, lambda value: _core.Scaling(True, value, None, 1.0)),
    ],
)
def test_the_core_refuses_options_that_it_does_not_know(name, count, call):
    for value in (-1, count, 1000):
        with pytest.raises(ValueError, match=f"{name} is {value}; expected 0 to {count - 1}"):
            call(value)
    call(0)
    call(count - 1 if name != "overflow" else 1)


def test_read_only_outputs_are_refused():
    x = np.ones(4, np.float32)
    x.flags.writeable = False
    assert lowbit.quantize(x, "e4m3fn").tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="quantize: out is read-only"):
        lowbit.quantize(x, "e4m3fn", out=x)


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes_come_back_from_little_endian_bit_strings(bits):
    rng = np.random.default_rng(bits)
    for count in (0, 1, 2, 7, 8, 9, 1001, 70001):
        codes = rng.integers(0, 2**bits, count, dtype=np.uint8)
        packed = lowbit.pack(codes, bits)
        stream = "".join(format(code, f"0{bits}b")[::-1] for code in codes[:2000])
        want = [int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8)]
        whole = len(want) - 1 if count > 2000 else len(want)
        assert packed.size == math.ceil(count * bits / 8) and packed[:whole].tolist() == want[:whole]
        np.testing.assert_array_equal(lowbit.unpack(packed, bits, count), codes)
        np.testing.assert_array_equal(lowbit.pack(codes | np.uint8(0xFF << bits & 0xFF), bits, threads=2), packed)
