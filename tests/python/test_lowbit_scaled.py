# Contract: scaled formats follow their definition, scale codes as well as elements, for every rule, axis, ragged end and kind of block. Oracle:
# scales from exact powers of two by integer comparison, elements by lowbit_oracle on x / scale, which float64 holds exactly.
from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from lowbit_oracle import Oracle, same

from slipstick import lowbit
from slipstick.lowbit import Format, ScaledFormat

pytestmark = pytest.mark.kernel

MX = ["mxfp8", "mxfp8_e5m2", "mxfp6", "mxfp6_e2m3", "mxfp4", "mxint8"]
RULES = ["floor", "ceil", "even", "rceil"]


def power_of(rule, greatest, element):
    """Exponent of the scale of a block."""
    if greatest == 0:
        return -127
    if math.isinf(greatest):
        greatest = 2.0**128
    bits = element.mantissa_bits if element.kind == "float" else element.bits - 2
    most = math.frexp(element.max)[1] - 1
    if rule == "even":  # to bits + 1 significant bits; a tie at the top goes up, as the lower one is odd
        fraction, exponent = math.frexp(greatest)
        greatest = math.ldexp(math.floor(math.ldexp(fraction, bits + 1) + 0.5), exponent - bits - 1)
    if rule == "rceil":
        k = -400
        while greatest > element.max * 2.0**k:
            k += 1
    else:
        fraction, exponent = math.frexp(greatest)
        k = exponent - 1 + (rule == "ceil" and fraction > 0.5) - most
    return max(-127, min(127, k))


def expected(x, fmt, mode="nearest_even"):
    """Of blocks along the last axis: values and scale codes."""
    oracle = Oracle(fmt.element)
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64)
    values, scales = np.empty_like(flat), []
    for row, line in enumerate(flat):
        for start in range(0, line.size, fmt.block):
            part = line[start : start + fmt.block]
            if np.isnan(part).any():
                values[row, start : start + fmt.block] = np.nan
                scales.append(255)
                continue
            k = power_of(fmt.rule, np.abs(part).max(), fmt.element)
            scales.append(k + 127)
            values[row, start : start + fmt.block] = [oracle.round(float(v) / 2.0**k, mode) * 2.0**k for v in part]
    with np.errstate(over="ignore"):
        return values.reshape(x.shape).astype(np.float32), np.array(scales, np.uint8)


def telling_blocks(seed=0):
    """Blocks over all of float32's exponents; zeros, subnormals, one outlier, greatest numbers, infinity, NaN."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((24, 64)) * 2.0 ** rng.integers(-30, 30, (24, 1))
    x[0] = 0
    x[1] = np.float32(1e-40) * rng.integers(-9, 9, 64)
    x[2, 5] = 3e38
    x[3] = np.finfo(np.float32).max
    x[4, 40] = np.inf
    x[5, 3] = np.nan
    x[6] *= 2.0 ** rng.integers(-60, 60, 64)
    x[7] = 2.0**-126 * rng.standard_normal(64)
    x[8, :32] = [448.0, 449.0, 463.9, 464.0, 480.0, 6.0, 7.0, 7.5] * 4
    x[9, :32], x[9, 32:] = 1.75, np.nextafter(np.float32(1.75), np.float32(2))
    x[10, :32], x[10, 32:] = 1.9375, 1.96875
    x[11, 1] = -0.0
    return x.astype(np.float32)


@pytest.mark.parametrize("name", MX)
@pytest.mark.parametrize("rule", RULES)
def test_mx_elements_and_scale_codes(name, rule):
    fmt = lowbit.format(name).replace(rule=rule)
    x = telling_blocks()
    want, scales = expected(x, fmt)
    got = lowbit.quantize(x, fmt)
    assert same(got, want).all()
    encoded = lowbit.encode(x, fmt)
    np.testing.assert_array_equal(encoded.scales.ravel(), scales)
    assert encoded.tensor_scale == 1 and encoded.scales.shape == (24, 2) == fmt.scale_shape(x.shape)
    with np.errstate(over="ignore"):
        assert same(lowbit.decode(encoded, fmt), want).all()


@pytest.mark.parametrize("mode", ["nearest_away", "toward_zero", "up", "down", "to_odd"])
def test_mx_in_other_modes(mode):
    x = telling_blocks(1)
    for name in ("mxfp4", "mxfp8_e5m2"):
        want, _ = expected(x, lowbit.format(name), mode)
        assert same(lowbit.quantize(x, name, rounding=mode), want).all()


@pytest.mark.parametrize("columns", [1, 31, 32, 33, 64, 100, 1000, 8200])
def test_ragged_ends_are_shorter_blocks(columns):
    x = np.random.default_rng(2).standard_normal((3, columns)).astype(np.float32) * 5
    want, scales = expected(x, lowbit.format("mxfp4"))
    assert same(lowbit.quantize(x, "mxfp4"), want).all()
    np.testing.assert_array_equal(lowbit.encode(x, "mxfp4").scales.ravel(), scales)
    in_place = x.copy()
    assert lowbit.quantize(in_place, "mxfp4", out=in_place) is in_place and same(in_place, want).all()


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_blocks_along_any_axis(axis):
    x = np.random.default_rng(3).standard_normal((40, 70, 33)).astype(np.float32)
    fmt = lowbit.format("mxfp8").replace(axis=axis)
    last = np.moveaxis(x, axis, -1)
    want = np.moveaxis(lowbit.quantize(np.ascontiguousarray(last), "mxfp8"), -1, axis)
    np.testing.assert_array_equal(lowbit.quantize(x, fmt), want)
    encoded = lowbit.encode(x, fmt)
    assert encoded.scales.shape == fmt.scale_shape(x.shape)
    np.testing.assert_array_equal(lowbit.decode(encoded, fmt), want)


def test_large_arrays_threads_and_types_change_nothing():
    x = np.random.default_rng(4).standard_normal((1100, 2048)).astype(np.float32) * 3
    x[500, 77], x[900, 5] = np.nan, np.inf
    for name in ("mxfp4", "mxfp8", "nvfp4"):
        want = (
            np.concatenate([lowbit.quantize(x[i : i + 100], name) for i in range(0, 1100, 100)])
            if name != "nvfp4"
            else lowbit.quantize(x, name)
        )
        for threads in (1, 3):
            np.testing.assert_array_equal(lowbit.quantize(x, name, threads=threads), want)
        np.testing.assert_array_equal(lowbit.quantize(x[::-1], name)[::-1], want)
    half = x[:8].astype(np.float16)
    np.testing.assert_array_equal(lowbit.quantize(half, "mxfp4").astype(np.float32), lowbit.quantize(half.astype(np.float32), "mxfp4"))
    options = {"rounding": "stochastic", "seed": 1, "random_bits": 8}
    want = lowbit.quantize(x, "mxfp4", threads=1, **options)
    np.testing.assert_array_equal(lowbit.quantize(x, "mxfp4", threads=3, **options), want)
    encoded = lowbit.encode(x, "mxfp4", **options)
    np.testing.assert_array_equal(lowbit.decode(encoded, "mxfp4"), want)


@pytest.mark.parametrize("block", [16, 32, 24, 1100, (4, 16)])
@pytest.mark.parametrize("offset", [0, 1, 4])
def test_results_past_the_caches_are_those_of_small_arrays(block, offset):
    x = np.random.default_rng(12).standard_normal((1104, 2400)).astype(np.float32)
    x[5, 3], x[90, 77], x[200, 1000] = np.nan, np.inf, -0.0
    x[300:304, :48] = 0  # scales of 0
    memory = np.full(x.size + 32, 9, np.float32)
    start = -memory.ctypes.data // 4 % 16 + offset
    out = memory[start : start + x.size].reshape(x.shape)
    for element, scale in (("e2m1", "e4m3fn"), ("int8", "fp32"), ("mxint8_element", "fp32")):
        fmt = ScaledFormat(element, block=block, scale=scale)
        lowbit.quantize(x, fmt, out=out)
        assert (memory[:start] == 9).all() and (memory[start + x.size :] == 9).all()
        for top in range(0, len(x), 92):
            part = x[top : top + 92].copy()
            assert same(out[top : top + 92], lowbit.quantize(part, fmt)).all()
            decoded = lowbit.decode(lowbit.encode(part, fmt), fmt)
            assert same(out[top : top + 92], decoded).all()


def test_stochastic_elements_take_the_number_of_their_position():
    x = np.random.default_rng(5).uniform(-5.9, 5.9, (5, 33)).astype(np.float32)
    x[:, 0] = 4.0  # so that every scale is 1
    x[:, 32] = 4.0
    options = {"rounding": "stochastic", "seed": 9, "stream": 2, "random_bits": 16}
    np.testing.assert_array_equal(lowbit.quantize(x, "mxfp4", **options), lowbit.quantize(x, "e2m1", **options))


def nvfp4(x, rows, columns):
    """The recipe in float32, step by step."""
    f = np.float32
    e2m1, e4m3 = Oracle(lowbit.format("e2m1")), Oracle(lowbit.format("e4m3fn"))
    tensor = f(np.abs(x).max()) / (f(6) * f(448))
    values, scales = np.empty_like(x), []
    for top in range(0, x.shape[0], rows):
        for left in range(0, x.shape[1], columns):
            part = x[top : top + rows, left : left + columns]
            scale = f(e4m3.round(float(f(np.abs(part).max()) / f(6) / tensor), "nearest_even"))
            scales.append(e4m3.code(float(scale)))
            total = scale * tensor
            for i, j in np.ndindex(*part.shape):
                ratio = part[i, j] / total if scale else f(0)
                values[top + i, left + j] = f(math.copysign(abs(e2m1.round(float(ratio), "nearest_even")), part[i, j])) * total
    return values, scales, float(tensor)


@pytest.mark.parametrize(("name", "rows", "columns"), [("nvfp4", 1, 16), ("nvfp4_16x16", 16, 16)])
def test_nvfp4_is_its_recipe(name, rows, columns):
    rng = np.random.default_rng(6)
    x = (rng.standard_normal((35, 40)) * 2.0 ** rng.integers(-9, 4, (35, 1))).astype(np.float32)
    x[3, 16:32] = 0
    x[4, :16] *= 1e-9  # a scale of 0
    want, scales, tensor = nvfp4(x, rows, columns)
    got = lowbit.quantize(x, name)
    assert same(got, want).all()
    encoded = lowbit.encode(x, name)
    assert encoded.scales.ravel().tolist() == scales and encoded.tensor_scale == tensor
    np.testing.assert_array_equal(lowbit.decode(encoded, name), want)
    np.testing.assert_array_equal(lowbit.quantize(np.zeros((3, 16), np.float32), name), 0)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
def test_scales_of_a_tensor_and_of_channels(axis):
    x = np.random.default_rng(7).standard_normal((6, 50, 7)).astype(np.float32)
    fmt = ScaledFormat(Format.integer(8, symmetric=True), block=None, axis=axis, scale="fp32")
    others = tuple(i for i in range(3) if axis is None or i != axis % 3)
    scale = np.abs(x).max(axis=others, keepdims=True) / np.float32(127)
    want = np.clip(np.rint(x / scale), -127, 127) * scale
    np.testing.assert_array_equal(lowbit.quantize(x, fmt), want)
    encoded = lowbit.encode(x, fmt)
    np.testing.assert_array_equal(encoded.scales.view(np.float32), scale.ravel() if axis is not None else scale.reshape(()))
    np.testing.assert_array_equal(lowbit.decode(encoded, fmt), want)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(lowbit.quantize(x, fmt, threads=threads), want)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3])
def test_random_numbers_are_those_of_the_position_that_the_user_sees(axis):
    # With 127 in every channel all scales are 1, and what is left is the rounding of the elements.
    x = (np.random.default_rng(7).random((5, 6, 70, 7)) * 100).astype(np.float32)
    for channel_axis in range(4):
        np.moveaxis(x, channel_axis, 0)[:, 0, 0, 0] = 127
    element = Format.integer(8, symmetric=True)
    fmt = ScaledFormat(element, block=None, axis=axis, scale="fp32")
    for bits in (8, 16, 32):
        options = {"rounding": "stochastic", "seed": 3, "stream": 4, "random_bits": bits}
        want = lowbit.quantize(x, element, **options)
        np.testing.assert_array_equal(lowbit.quantize(x, fmt, **options), want)
        np.testing.assert_array_equal(lowbit.quantize(np.asfortranarray(x), fmt, **options), want)
        np.testing.assert_array_equal(lowbit.decode(lowbit.encode(x, fmt, **options), fmt), want)
        in_place = x.copy()
        np.testing.assert_array_equal(lowbit.quantize(in_place, fmt, out=in_place, threads=3, **options), want)


@pytest.mark.parametrize("shape", [(1, 3, 5), (1, 1, 3, 5), (3, 1, 5)])
def test_channels_between_axes_of_one_leave_the_input(shape):
    fmt = ScaledFormat("int8", block=None, axis=-2, scale="fp32")
    x = np.random.default_rng(9).standard_normal(shape).astype(np.float32)
    before, out = x.copy(), np.empty_like(x)
    x.flags.writeable = False
    got = lowbit.quantize(x, fmt)
    assert lowbit.quantize(x, fmt, out=out) is out
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(out, got)
    scale = np.abs(x).max(axis=tuple(i for i in range(x.ndim) if i != x.ndim - 2), keepdims=True) / np.float32(127)
    np.testing.assert_array_equal(got, np.rint(x / scale) * scale)


def test_channels_without_elements_have_scales_of_zero():
    fmt = ScaledFormat("int8", block=None, axis=0, scale="fp32")
    for _ in range(20):  # memory that was used before
        np.full(4, 0xDEADBEEF, np.uint32)
        assert lowbit.encode(np.zeros((4, 0), np.float32), fmt).scales.tolist() == [0, 0, 0, 0]


def test_code_books_can_be_elements():
    x = np.random.default_rng(8).standard_normal((4, 128)).astype(np.float32)
    fmt = ScaledFormat("nf4", block=64, scale="fp32")
    scale = np.repeat(np.abs(x.reshape(4, 2, 64)).max(-1), 64, axis=-1).reshape(4, 128)
    np.testing.assert_array_equal(lowbit.quantize(x, fmt), lowbit.quantize(x / scale, "nf4") * scale)


def test_what_overflows_a_scale_saturates():
    x = np.full((2, 32), 1e8, np.float32)
    x[1, 3], x[1, 20] = np.inf, np.nan
    fmt = ScaledFormat("int8", block=16, scale="fp16")
    got = lowbit.quantize(x, fmt)
    most = np.float32(127 * 65504)
    assert (got[:, :16] == most).all() and (got[0] == most).all() and np.isnan(got[1, 16:]).all()
    encoded = lowbit.encode(x, fmt)
    np.testing.assert_array_equal(lowbit.decode(encoded, fmt), got)


def test_only_its_own_block_of_a_tensor_feels_infinity_and_nan():
    x = np.random.default_rng(10).standard_normal((40, 64)).astype(np.float32)
    want = lowbit.quantize(x, "nvfp4")
    x[3, 20], x[7, 50] = np.inf, np.nan
    for threads in (1, 2):
        got = lowbit.quantize(x, "nvfp4", threads=threads)
        other = np.ones((40, 64), bool)
        other[3, 16:32] = other[7, 48:] = False
        np.testing.assert_array_equal(got[other], want[other])
        assert np.isnan(got[7, 48:]).all() and np.isfinite(got[3, 16:32]).all() and got[3, 20] == got[3, 16:32].max()
    encoded = lowbit.encode(x, "nvfp4")
    assert encoded.tensor_scale == np.abs(x[other]).max() / np.float32(6 * 448)
    assert got[3, 20] == np.float32(6) * (np.float32(448) * np.float32(encoded.tensor_scale))
    np.testing.assert_array_equal(lowbit.decode(encoded, "nvfp4"), got)
    assert lowbit.encode(np.float32([[np.inf, np.nan]]), "nvfp4").tensor_scale == 1


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4", "mxfp6"])
def test_codes_of_nan_blocks_stay_within_the_bits(name):
    x = np.full((1, 64), np.nan, np.float32)
    encoded = lowbit.encode(x, name)
    assert encoded.codes.max() < 2 ** lowbit.format(name).element.bits
    assert np.isnan(lowbit.decode(encoded, name)).all()


def test_pickled_formats_keep_their_names():
    for name in ("mxfp4", "nvfp4", "nvfp4_16x16"):
        fmt = lowbit.format(name)
        twin = pickle.loads(pickle.dumps(fmt))
        assert (twin, twin.name, twin.element.name, repr(twin)) == (fmt, fmt.name, fmt.element.name, repr(fmt))
    assert lowbit.format("nvfp4_16x16").name == "nvfp4_16x16"
    assert ScaledFormat("e2m1", block=np.int64(32)) == ScaledFormat("e2m1", block=32)
    with pytest.raises(TypeError, match="scale is a scaled format"):
        ScaledFormat("e2m1", scale="mxfp4")
    with pytest.raises(TypeError, match=r"block is 3\.5"):
        ScaledFormat("e2m1", block=3.5)


def test_scaled_formats_are_values_and_say_what_they_cost():
    fmt = lowbit.format("mxfp4")
    assert fmt.bits == 4.25 and lowbit.format("nvfp4").bits == 4.5
    assert lowbit.format(fmt.spec) == fmt and hash(lowbit.format(fmt.spec)) == hash(fmt) and fmt.replace(rule="ceil") != fmt
    assert lowbit.quantize(np.zeros((0, 5), np.float32), fmt).shape == (0, 5)


@pytest.mark.parametrize("side", [2**32, 2**62])
def test_blocks_may_be_larger_than_the_array(side):
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    large, fitting = (ScaledFormat("e4m3fn", block=block) for block in ((side, side), (3, 4)))
    assert same(lowbit.quantize(x, large), lowbit.quantize(x, fitting)).all()
    assert same(lowbit.decode(lowbit.encode(x, large), large), lowbit.quantize(x, fitting)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ScaledFormat("e2m1", block=0), r"block is 0; expected 1 to 2\^63 - 1"),
        (lambda x: ScaledFormat("e2m1", block=(1, 2**63)), r"expected 1 to 2\^63 - 1"),
        (lambda x: ScaledFormat("e2m1", block=(1, 2, 3)), "expected a number, a pair of numbers or None"),
        (lambda x: ScaledFormat("e2m1", rule="round"), "rule is 'round'; expected one of floor, ceil, even, rceil"),
        (lambda x: ScaledFormat("e2m1", axis=None), "axis is None with blocks of 32"),
        (lambda x: ScaledFormat("e2m1", two_level=True), "two_level is true with powers of two"),
        (lambda x: lowbit.quantize(x, lowbit.format("mxfp4").replace(axis=2)), "axis is 2; expected one of an array of 2 dimensions"),
        (lambda x: lowbit.quantize(x[0], "nvfp4_16x16"), "x has 1 dimensions; expected at least 2"),
        (
            lambda x: lowbit.decode(lowbit.encode(x, "mxfp4")._replace(scales=np.zeros(3, np.uint8)), "mxfp4"),
            r"scales has shape \(3,\); expected \(4, 1\)",
        ),
        (lambda x: lowbit.quantize(x, "mxfp4", profile="torch"), "profile 'torch' knows no mx e2m1fn"),
    ],
)
def test_bad_scaled_formats_say_why(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((4, 8), np.float32))
