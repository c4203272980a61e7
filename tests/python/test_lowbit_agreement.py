# Contract: ml_dtypes, torch and gfloat give our numbers in every format that they share with us, but for what DIFFERENCES lists, and there they give
# what it says: nothing is missing from the list, and nothing in it is wrong. tests/golden/lowbit/README.md prints it. NaN equals NaN; signs of 0 count.
from __future__ import annotations

import pathlib
from typing import NamedTuple

import numpy as np
import pytest
from lowbit_oracle import same
from test_lowbit_exact import random_number

from slipstick import lowbit

pytestmark = pytest.mark.kernel

LEAST, GREATEST = 2.0**-127, 2.0**127  # of E8M0


class Difference(NamedTuple):
    converter: str
    formats: str
    inputs: str
    """A key of INPUTS."""
    gives: str
    """A key of RESULTS."""
    definition: str
    """Likewise: what we give."""


DIFFERENCES = [
    Difference("ml_dtypes", "e4m3fn e4m3fnuz e5m2fnuz e4m3b11fnuz", "what rounds beyond the greatest number", "NaN", "the greatest number"),
    Difference("ml_dtypes", "e3m2fn e2m3fn e2m1fn", "NaN", "the zero of the other sign", "NaN"),
    Difference("ml_dtypes", "e8m0fnu", "0 and negative numbers", "NaN", "the least number"),
    Difference("ml_dtypes", "e8m0fnu", "infinity and 1.5 * 2^127 or more", "NaN", "the greatest number"),
    Difference("ml_dtypes", "e8m0fnu", "above 2^-127, up to its half more", "2^-126", "the least number"),
    Difference("ml_dtypes", "e8m0fnu", "ties whose even code is the lower", "the upper", "the lower"),
    Difference("ml_dtypes", "int4 uint4 int2 uint2", "fractions", "the number towards zero", "the nearest number"),
    Difference("ml_dtypes", "int4 uint4 int2 uint2", "whole numbers beyond the range", "the lowest bits", "the nearest number"),
    Difference("torch", "e4m3fnuz e5m2fnuz", "what rounds beyond the greatest number", "NaN", "the greatest number"),
    Difference("torch", "e8m0fnu", "negative numbers", "as without the sign", "the least number"),
    Difference("torch", "e8m0fnu", "-infinity", "NaN", "the least number"),
    Difference("torch", "e8m0fnu", "infinity and 1.5 * 2^127 or more", "NaN", "the greatest number"),
    Difference("torch", "e8m0fnu", "above 2^-127, up to its half more", "2^-126", "the least number"),
    Difference("torch", "e8m0fnu", "ties whose even code is the lower", "the upper", "the lower"),
    Difference("gfloat", "e8m0fnu", "0", "0", "the least number"),
    Difference("gfloat", "e8m0fnu", "negative numbers", "a negative number", "the least number"),
    Difference("gfloat", "e8m0fnu", "-infinity", "-infinity", "the least number"),
    Difference("gfloat", "e8m0fnu", "below 2^-127", "powers of two below 2^-127", "the least number"),
]


def inputs():
    """All upper halves of float32, each with four lower halves: exact, just above, in the middle, just below the next."""
    high = np.arange(65536, dtype=np.uint32) << 16
    return np.concatenate([high, high | 1, high | 0x8000, high | 0xFFFF]).view(np.float32)


def beyond(x, fmt):
    """Nearer to what would follow the greatest number than to that, or as near where its code is odd."""
    values = fmt.values().astype(np.float64)
    edge = values[-1] + (values[-1] - values[-2]) / 2
    odd = bool(lowbit.encode(np.float32([values[-1]]), fmt)[0] & 1)
    return np.abs(x) >= edge if odd else np.abs(x) > edge


def lower_power(x):
    with np.errstate(all="ignore"):
        return np.exp2(np.floor(np.log2(np.abs(x.astype(np.float64)))))


def is_lower_tie(x, fmt):
    """1.5 * 2^k where k + 127, the code of 2^k, is even."""
    low = lower_power(x)
    with np.errstate(all="ignore"):
        return (x > 0) & np.isfinite(x) & (x == 1.5 * low) & ((np.log2(low) + 127) % 2 == 0)


INPUTS = {
    "what rounds beyond the greatest number": beyond,
    "NaN": lambda x, fmt: np.isnan(x),
    "0": lambda x, fmt: x == 0,
    "negative numbers": lambda x, fmt: (x < 0) & np.isfinite(x),
    "0 and negative numbers": lambda x, fmt: x <= 0,
    "-infinity": lambda x, fmt: x == -np.inf,
    "infinity and 1.5 * 2^127 or more": lambda x, fmt: x >= 1.5 * GREATEST,
    "above 2^-127, up to its half more": lambda x, fmt: (x > LEAST) & (x <= 1.5 * LEAST),
    "below 2^-127": lambda x, fmt: (x > 0) & (x < LEAST),
    "ties whose even code is the lower": lambda x, fmt: is_lower_tie(x, fmt) & (x > 1.5 * LEAST) & (x < 1.5 * GREATEST),
    "fractions": lambda x, fmt: (x != np.trunc(x)) & np.isfinite(x),
    "whole numbers beyond the range": lambda x, fmt: (x == np.trunc(x)) & ((x > fmt.max) | (x < fmt.min)) & np.isfinite(x),
}


def lowest_bits(x, fmt):
    wrapped = x.astype(np.int64) % 2**fmt.bits
    return np.where(fmt.signed & (wrapped >= 2 ** (fmt.bits - 1)), wrapped - 2**fmt.bits, wrapped)


def below_least(x, fmt):
    """To nearest, ties to even, as if exponents went on below."""
    low = lower_power(x)
    return np.where((x > 1.5 * low) | ((x == 1.5 * low) & ~is_lower_tie(x, fmt)), 2 * low, low)


def some_negative(x, fmt):
    got = gfloat_of(x, fmt)
    assert (got < 0).all()
    return got


RESULTS = {
    "NaN": lambda x, fmt: np.full(x.shape, np.nan),
    "0": lambda x, fmt: np.zeros(x.shape),
    "-infinity": lambda x, fmt: np.full(x.shape, -np.inf),
    "the zero of the other sign": lambda x, fmt: np.copysign(0.0, -x),
    "the greatest number": lambda x, fmt: np.where(fmt.signed & (x < 0), fmt.min, fmt.max),
    "the least number": lambda x, fmt: np.full(x.shape, fmt.min),
    "2^-126": lambda x, fmt: np.full(x.shape, 2.0**-126),
    "the upper": lambda x, fmt: 2 * lower_power(x),
    "the lower": lambda x, fmt: lower_power(x),
    "the nearest number": lambda x, fmt: np.clip(np.rint(x), fmt.min, fmt.max) + 0.0,
    "the number towards zero": lambda x, fmt: lowest_bits(np.trunc(x), fmt),
    "as without the sign": lambda x, fmt: torch_of(-x, fmt),
    "a negative number": some_negative,
    "powers of two below 2^-127": below_least,
    "the lowest bits": lowest_bits,
}


def ml_dtypes_of(x, fmt):
    import ml_dtypes

    types = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16, "e8m0fnu": ml_dtypes.float8_e8m0fnu}
    dtype = types.get(fmt.name) or getattr(ml_dtypes, fmt.name if fmt.kind == "integer" else f"float{fmt.bits}_{fmt.name}")
    with np.errstate(all="ignore"):
        return x.astype(dtype).astype(np.float32)


def torch_of(x, fmt):
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(fmt.name) or getattr(torch, f"float{fmt.bits}_{fmt.name}")
    return torch.from_numpy(np.ascontiguousarray(x)).to(dtype).float().numpy()


def gfloat_format(fmt):
    from gfloat import formats

    kinds = {
        "e5m2": "ocp_e5m2", "e4m3fn": "ocp_e4m3", "e3m2fn": "ocp_e3m2", "e2m3fn": "ocp_e2m3", "e2m1fn": "ocp_e2m1", "e8m0fnu": "ocp_e8m0",
        "bf16": "bfloat16", "fp16": "binary16", "fixed8.6": "ocp_int8",
    }  # fmt: skip
    if fmt.name in kinds:
        return getattr(formats, f"format_info_{kinds[fmt.name]}")
    return formats.format_info_p3109(*map(int, fmt.name.removeprefix("binary").split("p")))


def gfloat_of(x, fmt, mode="nearest_even", **options):
    import gfloat

    modes = {
        "nearest_even": "TiesToEven", "nearest_away": "TiesToAway", "toward_zero": "TowardZero", "up": "TowardPositive",
        "down": "TowardNegative", "stochastic": "StochasticFast",
    }  # fmt: skip
    saturates = fmt.kind != "float" or fmt.overflow == "saturate"
    with np.errstate(invalid="ignore"):  # of signalling NaN
        given = x.astype(np.float64)
    return gfloat.round_ndarray(gfloat_format(fmt), given, getattr(gfloat.RoundMode, modes[mode]), sat=saturates, **options)


SHARED = {
    "ml_dtypes": (
        "e5m2 e4m3fn e4m3 e3m4 e4m3fnuz e5m2fnuz e4m3b11fnuz e3m2fn e2m3fn e2m1fn e8m0fnu bf16 fp16 int4 uint4 int2 uint2",
        ml_dtypes_of,
    ),
    "torch": ("e5m2 e4m3fn e4m3fnuz e5m2fnuz e8m0fnu bf16 fp16", torch_of),
    "gfloat": ("e5m2 e4m3fn e3m2fn e2m3fn e2m1fn e8m0fnu bf16 fp16 fixed8.6", gfloat_of),
}


@pytest.mark.parametrize(
    ("converter", "name"),
    [
        pytest.param(converter, name, marks=pytest.mark.torch if converter == "torch" else ())
        for converter, (names, _) in SHARED.items()
        for name in names.split()
    ],
)
def test_a_converter_differs_where_the_table_says_and_nowhere_else(converter, name):
    pytest.importorskip(converter)
    fmt = lowbit.format(name)
    x = inputs()
    if fmt.kind == "integer":  # what a conversion to int64 leaves undefined is no conversion to compare with
        x = np.concatenate([np.arange(-4000, 4000).astype(np.float32) / 64, np.float32([1e6, -1e6, 0.0])])
    with np.errstate(invalid="ignore"):  # of signalling NaN
        want = lowbit.quantize(x, fmt).astype(np.float64)
    for row in DIFFERENCES:
        if row.converter == converter and name in row.formats.split():
            at = INPUTS[row.inputs](x, fmt)
            assert at.any(), row
            with np.errstate(all="ignore"):
                assert same(want[at], RESULTS[row.definition](x[at], fmt)).all(), row
                want[at] = RESULTS[row.gives](x[at], fmt)
    got = SHARED[converter][1](x, fmt)
    wrong = np.flatnonzero(~same(got, want))
    assert wrong.size == 0, f"{wrong.size}: {x[wrong[:5]]} gives {got[wrong[:5]]}; the table says {want[wrong[:5]]}"


@pytest.mark.parametrize("overflow", ["saturate", "infinity", "nan"])
@pytest.mark.parametrize("mode", ["nearest_even", "nearest_away", "toward_zero", "up", "down"])
def test_gfloat_gives_our_numbers_in_every_mode(mode, overflow):
    pytest.importorskip("gfloat")
    x = inputs()[::7]
    for name in ("e5m2 e4m3fn e3m2fn e2m3fn e2m1fn bf16 fp16 " + " ".join(f"binary8p{p} binary6p{min(p, 5)}" for p in range(1, 8))).split():
        fmt = lowbit.format(name)
        if overflow != "saturate" and overflow != ("infinity" if fmt.has_infinity else "nan" if fmt.has_nan else ""):
            continue  # gfloat has one choice besides saturating
        fmt = fmt.replace(overflow=overflow, name=name)
        got, want = lowbit.quantize(x, fmt, rounding=mode), gfloat_of(x, fmt, mode)
        wrong = np.flatnonzero(~same(got, want))
        assert wrong.size == 0, f"{name}: {x[wrong[:5]]} became {got[wrong[:5]]}; gfloat gives {want[wrong[:5]]}"


@pytest.mark.parametrize("name", ["e4m3fn", "e2m1fn", "fp16", "binary8p3"])
@pytest.mark.parametrize("bits", [8, 16])
def test_gfloat_gives_our_stochastic_numbers_from_our_random_ones(name, bits):
    pytest.importorskip("gfloat")
    fmt = lowbit.format(name).replace(overflow="saturate", name=name)
    x = (np.random.default_rng(0).standard_normal(3000) * np.exp2(np.linspace(-12, 8, 3000))).astype(np.float32)
    numbers = np.array([random_number(i, 5, 6, bits) for i in range(x.size)])
    want = gfloat_of(x, fmt, "stochastic", srbits=numbers, srnumbits=bits)
    assert same(lowbit.quantize(x, fmt, rounding="stochastic", seed=5, stream=6, random_bits=bits), want).all()


@pytest.mark.parametrize(
    "name", [name for name in SHARED["gfloat"][0].split() if name not in ("bf16", "fp16")] + ["binary8p3", "binary8p4"]
)
def test_codes_mean_what_gfloat_says(name):
    gfloat = pytest.importorskip("gfloat")
    fmt = lowbit.format(name)
    codes = np.arange(2**fmt.bits, dtype=np.uint8)
    want = [gfloat.decode_float(gfloat_format(fmt), int(code)).fval for code in codes]
    assert same(lowbit.decode(codes, fmt).astype(np.float64), np.array(want)).all()


@pytest.mark.parametrize("name", ["mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e2m3", "mxfp4"])
def test_blocks_of_gfloat_are_ours_where_its_scale_is(name):
    gfloat = pytest.importorskip("gfloat")
    fmt = lowbit.format(name)
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((50, 32)) * np.exp2(rng.integers(-20, 20, (50, 1)))).astype(np.float32)
    got, scales = lowbit.quantize(x, fmt), lowbit.encode(x, fmt).scales
    for block, result, code in zip(x, got, scales.ravel()):
        scale = 2.0 ** (int(code) - 127)
        rounded = gfloat.round_ndarray(gfloat_format(lowbit.format(fmt.element.name)), block / scale, sat=True) * scale
        assert same(result.astype(np.float64), rounded).all()


def test_the_readme_prints_the_table():
    text = (pathlib.Path(__file__).resolve().parents[1] / "golden" / "lowbit" / "README.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith(tuple(f"| {converter} |" for converter in SHARED))]
    assert rows == [
        f"| {row.converter} | {row.formats.replace(' ', ', ')} | {row.inputs} | {row.gives} | {row.definition} |" for row in DIFFERENCES
    ]
