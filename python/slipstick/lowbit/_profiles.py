"""What other converters give where they leave the definition: PROFILES, applied before and after the common kernels.

Where those converters are wrong, and a profile with them (tests/python/test_lowbit_peers.py and tests/golden/lowbit/peers.json hold them to it):

| converter | what it does | by the definition |
|---|---|---|
| torch | e4m3fn saturates infinity; the fnuz formats overflow to NaN, e5m2 to infinity | one choice for all |
| ml_dtypes | NaN becomes the zero of the other sign in FP4 and FP6 | NaN, or refused |
| microxcaling | -0 becomes +0 | -0 |
| microxcaling | the float32 before half of the least number becomes that number: 0.24999999 gives 0.5 in e2m1 | 0 |
| microxcaling | infinity stays infinite where everything else saturates, and toward_zero overflows to it | saturates, or NaN |
| microxcaling | exponents are floor(log2(x)) in float32, which is one too many just below a power of two: a block whose greatest number is 255.99998 is \
scaled like one of 256, toward_zero loses half a binade there, and the last 44 float32 become NaN | as the number's own exponent |
| microxcaling | a block with an infinity is NaN | saturates |
| qtorch | its "nearest" takes ties away from zero; of fixed point to even, but 0.50000006 becomes 0 | as it is named |
| qtorch | the top binade is used: e4m3 saturates at 480, e5m2 at 114688, fp16 at 131008 | 448 or 240, 57344, 65504 |
| qtorch | NaN becomes the greatest number, or 0 where all its upper bits are set; with 8 exponent bits it stays, or becomes infinity or 0; -0 becomes +0 | NaN, -0 |
| qtorch | subnormal results are rounded twice: 0.24999999 becomes 0.5 in e2m1 | 0 |
| pychop | what lies in the binade above the greatest number becomes 0: 1e5 in fp16; but what rounds up to its foot becomes that: 65520 gives 65536 | \
infinity |
| pychop | exponents as in microxcaling: just below a power of two toward_zero loses half a binade, and in float32's last binade numbers become 0 | \
as the number's own exponent |
| pychop | beyond that binade all is infinite, toward_zero too | the greatest number |
| pychop | subnormal results are rounded twice: 0.25000003 becomes 0 in e2m1, and "up" gives 0 up to 2^-25 | 0.5, the least number |
| pychop | -0 becomes +0; -infinity in fixed point becomes -7.9375 where -9 becomes -8 | -0, -8 |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._arrays import is_torch
from ._format import Format
from ._scaled import ScaledFormat

PROFILES = {
    "torch": "torch 2.12 and later: e4m3fn saturates, infinity too; the fnuz formats overflow to NaN; e5m2, bf16 and fp16 to infinity.",
    "ml_dtypes": "ml_dtypes 0.6, and JAX: formats without infinity overflow to NaN; NaN becomes the zero of the other sign in FP4, FP6.",
    "cuda-satfinite": "PTX cvt.satfinite: everything saturates, infinity too; NaN becomes the greatest number in FP4 and FP6.",
    "microxcaling": (
        "microxcaling 7bc4195, its PyTorch code on float32: _quantize_elemwise, with saturate_normals where the format saturates, and "
        "_quantize_mx with 8 scale bits. Its rounding 'even' is nearest_even, 'nearest' nearest_away, 'floor' toward_zero."
    ),
    "qtorch": (
        "qtorch 0.3.0 on the CPU: float_quantize of the format's exponent and mantissa bits and fixed_point_quantize of its bits and fraction "
        "bits, both with its rounding 'nearest', whatever the nearest mode asked for."
    ),
    "pychop": (
        "pychop 0.6.2, its NumPy code on float32: Chop of the format's exponent and mantissa bits and its flushing of subnormals, Chopf of its "
        "integer and fraction bits. Its rmode 1 is nearest_even, 2 up, 3 down, 4 toward_zero."
    ),
}
_TORCH_FORMATS = ("e4m3fn", "e5m2", "e4m3fnuz", "e5m2fnuz", "bf16", "fp16")
_MICROXCALING_FORMATS = ("e5m2", "e4m3fn", "e3m2fn", "e2m3fn", "e2m1fn", "bf16", "fp16")


class Request:
    """A format, a rounding and an input that make the common kernels give what a profile says, and what is to be done with their result."""

    def __init__(self, fmt: Any, rounding: str, x: Any, finish: Callable[[Any], Any] | None = None) -> None:
        self.fmt = fmt
        self.rounding = rounding
        self.x = x
        self.finish = finish


def with_profile(where: str, profile: str | None, fmt: Any, rounding: str, x: Any) -> Request:
    """What the common kernels must be asked for.

    Raises:
        ValueError: there is no such profile, or it says nothing about the format or the rounding. TypeError: nor about the type of x.
    """
    if profile is None:
        return Request(fmt, rounding, x)
    if profile not in PROFILES:
        raise ValueError(f"{where}: profile is {profile!r}; expected one of {', '.join(PROFILES)}")
    if profile in _LIBRARIES:
        if where != "quantize":
            raise ValueError(f"{where}: profile is {profile!r}, which makes no codes; expected another, or quantize")
        if str(x.dtype).rpartition(".")[2] != "float32":
            raise TypeError(f"{where}: x has dtype {x.dtype} with profile {profile!r}; expected float32")
        return _LIBRARIES[profile](fmt, rounding, x)
    if not isinstance(fmt, Format) or fmt.kind != "float" or (profile == "torch" and not _is_one_of(_TORCH_FORMATS, fmt)):
        raise _unknown(profile, fmt, where)
    if profile == "torch":
        overflow = "infinity" if fmt.has_infinity else "nan" if fmt.specials == "fnuz" else "saturate"
        return Request(fmt.replace(overflow=overflow), rounding, x)
    if profile == "ml_dtypes":
        overflow = "infinity" if fmt.has_infinity else "nan" if fmt.has_nan else "saturate"
        return Request(fmt.replace(overflow=overflow), rounding, x if fmt.has_nan else _without_nan(x, None))
    return Request(fmt.replace(overflow="saturate"), rounding, x if fmt.has_nan else _without_nan(x, fmt.max))


def _unknown(profile: str, fmt: Any, where: str = "quantize") -> ValueError:
    return ValueError(f"{where}: profile {profile!r} knows no {fmt.name}; expected one of its formats")


def _check_rounding(profile: str, rounding: str, known: tuple[str, ...]) -> None:
    if rounding not in known:
        raise ValueError(f"quantize: rounding is {rounding!r} with profile {profile!r}; expected one of {', '.join(known)}")


def _is_one_of(names: tuple[str, ...], fmt: Format) -> bool:
    from ._presets import preset

    plain = fmt.replace(overflow="saturate")
    return any(plain == other.replace(overflow="saturate") for name in names if (other := preset(name)))


def _without_nan(x: Any, number: float | None) -> Any:
    """A number, or the zero of the other sign, instead of NaN."""
    if not is_torch(x) and not np.isnan(x).any():
        return x
    return _where(x != x, _copysign(0.0, -x) if number is None else number, x)


# ---- arrays and tensors alike ----------------------------------------------------------------------------------------------------------------


def _library(x: Any) -> Any:
    if is_torch(x):
        import torch

        return torch
    return np


def _where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, of the type of the array among a and b."""
    of = b if hasattr(b, "dtype") else a
    if is_torch(of):
        return _library(of).where(condition, a, b)
    return np.where(condition, np.asarray(a, of.dtype), np.asarray(b, of.dtype))


def _copysign(magnitude: Any, sign: Any) -> Any:
    if is_torch(sign):
        torch = _library(sign)
        return torch.copysign(torch.as_tensor(magnitude, dtype=sign.dtype), sign)
    return np.copysign(np.asarray(magnitude, sign.dtype), sign)


def _exponent(magnitude: Any) -> Any:
    """floor(log2(magnitude)) as torch has it in float32: of the logarithm rounded to that. Float64, -inf for 0."""
    array = magnitude.detach().numpy() if is_torch(magnitude) else magnitude
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.floor(np.log2(array.astype(np.float64)).astype(np.float32)).astype(np.float64)
    return _library(magnitude).from_numpy(exponent) if is_torch(magnitude) else exponent


def _power_of_two(exponent: Any, like: Any) -> Any:
    """In float32, infinite from 128 on."""
    array = np.asarray(exponent)
    power = np.where(np.isnan(array), np.nan, np.ldexp(1.0, np.nan_to_num(array, posinf=1000, neginf=-1000).astype(int)))
    with np.errstate(over="ignore"):
        power = power.astype(np.float32)
    return _library(like).from_numpy(power) if is_torch(like) else power


# ---- microxcaling ---------------------------------------------------------------------------------------------------------------------------


def _microxcaling(fmt: Any, rounding: str, x: Any) -> Request:
    _check_rounding("microxcaling", rounding, ("nearest_even", "nearest_away", "toward_zero"))
    if isinstance(fmt, ScaledFormat):
        return _microxcaling_blocks(fmt, rounding, x)
    if fmt.kind == "integer" and fmt.signed and fmt.fraction_bits == fmt.bits - 2:
        return _microxcaling_elements(fmt.replace(symmetric=True), rounding, x)
    if fmt.kind != "float" or fmt.overflow == "nan" or not _is_one_of(_MICROXCALING_FORMATS, fmt):
        raise _unknown("microxcaling", fmt)
    return _microxcaling_elements(fmt, rounding, x)


def _microxcaling_elements(fmt: Format, rounding: str, x: Any) -> Request:
    magnitude = abs(x)
    given = x + 0.0  # -0 becomes +0
    quantum = fmt.smallest_subnormal if fmt.kind == "float" else 2.0**-fmt.fraction_bits
    lost = x != x  # what becomes NaN
    if fmt.kind == "float":
        exponent = _exponent(magnitude)
        lost = lost | (exponent == 128) & (magnitude != math.inf)
        if rounding == "toward_zero":
            power = _power_of_two(exponent, x)
            raised = (power > magnitude) & (power > fmt.smallest_normal)
            given = _where(raised, _copysign(power - power * 2.0**-fmt.mantissa_bits, x), given)
    if rounding != "toward_zero":
        before_half = quantum * (0.5 - 2.0**-25)
        if float(np.float32(before_half)) == before_half:
            given = _where(magnitude == before_half, _copysign(quantum, x), given)

    beyond = 2.0 ** math.frexp(fmt.max)[1]

    def finish(y: Any) -> Any:
        if fmt.kind == "float" and fmt.overflow == "infinity" and rounding == "toward_zero":
            y = _where(abs(given) >= beyond, _copysign(math.inf, x), y)
        y = _where(abs(x) == math.inf, x, y)
        y = _where((y == 0) & (x < 0), -0.0, y)
        return _where(lost, math.nan, y)

    return Request(fmt, rounding, given, finish)


def _microxcaling_blocks(fmt: ScaledFormat, rounding: str, x: Any) -> Request:
    element = fmt.element
    if element.kind == "integer":
        element = element.replace(symmetric=True)
        known = element.fraction_bits == element.bits - 2
    else:
        element = element.replace(overflow="saturate")
        known = _is_one_of(_MICROXCALING_FORMATS, element)
    if not known or not isinstance(fmt.block, int) or fmt.scale != "e8m0" or fmt.rule != "floor":
        raise _unknown("microxcaling", fmt)
    scale = _microxcaling_scales(fmt, math.frexp(element.max)[1] - 1, x)
    inner = _microxcaling_elements(element, rounding, x / scale)
    assert inner.finish is not None
    elements = inner.finish
    return Request(inner.fmt, rounding, inner.x, lambda y: elements(y) * scale)


def _microxcaling_scales(fmt: ScaledFormat, max_exponent: int, x: Any) -> Any:
    """Of every element, that of its block."""
    array = x.detach().numpy() if is_torch(x) else x
    axis = fmt._axis(array.ndim)
    length = array.shape[axis]
    starts = np.arange(0, max(length, 1), fmt.block)
    if array.size == 0:
        return x * 0 + 1
    greatest = np.maximum.reduceat(np.abs(array), starts, axis=axis)  # NaN wherever one is
    exponent = _exponent(np.where(greatest == 0, np.float32(2.0**-126), greatest)) - max_exponent
    exponent = np.where(exponent > 127, np.nan, np.maximum(exponent, -127))
    scale = np.repeat(_power_of_two(exponent, array), np.diff(np.append(starts, length)), axis=axis)
    return _library(x).from_numpy(scale) if is_torch(x) else scale


# ---- qtorch ---------------------------------------------------------------------------------------------------------------------------------


def _qtorch(fmt: Any, rounding: str, x: Any) -> Request:
    _check_rounding("qtorch", rounding, ("nearest_even", "nearest_away"))
    if isinstance(fmt, Format) and fmt.kind == "integer" and fmt.signed:
        unit = 2.0**-fmt.fraction_bits
        given = (x / unit + 0.5 - 0.5) * unit
        return Request(fmt, "nearest_even", given, lambda y: _where((y == 0) & (given < 0), -0.0, y))
    if not isinstance(fmt, Format) or fmt.kind != "float" or not fmt.signed or not 0 < fmt.mantissa_bits < 23 or fmt.exponent_bits < 2:
        raise _unknown("qtorch", fmt)
    wide = fmt.exponent_bits == 8
    specials, overflow = ("ieee", "infinity") if wide else ("none", "saturate")
    plain = Format(fmt.exponent_bits, fmt.mantissa_bits, specials=specials, overflow=overflow)
    least = _copysign(plain.smallest_normal, x)
    given = _where(abs(x) < plain.smallest_normal, (x + least) - least, x)

    def finish(y: Any) -> Any:
        y = y + 0.0
        if not wide:
            y = _where(x != x, _copysign(plain.max, x), y)
        # It rounds the words of NaN too: a mantissa that rounds to 0 means infinity, and all upper bits set carry into the sign.
        half = 1 << (22 - fmt.mantissa_bits)
        word = x.view(_library(x).int32)
        if wide:
            y = _where((x != x) & ((word & 0x7FFFFF) < half), _copysign(math.inf, x), y)
        upper = 0x80000000 - half
        return _where((x != x) & ((word & upper) == upper), -_copysign(0.0, x), y)

    return Request(plain, "nearest_away", given, finish)


# ---- pychop ---------------------------------------------------------------------------------------------------------------------------------


def _pychop(fmt: Any, rounding: str, x: Any) -> Request:
    _check_rounding("pychop", rounding, tuple(_WHOLE))
    if isinstance(fmt, Format) and fmt.kind == "integer" and fmt.signed and not fmt.symmetric and fmt.bits <= 24:
        unit = 2.0**-fmt.fraction_bits

        def finish_fixed(y: Any) -> Any:
            y = _where((y == 0) & (x < 0), -0.0, y)
            return _where(abs(x) == math.inf, _copysign(fmt.max, x), y)

        return Request(fmt, rounding, x / unit * unit, finish_fixed)
    if not isinstance(fmt, Format) or fmt.kind != "float" or not fmt.signed or not 0 < fmt.mantissa_bits < 23 or fmt.exponent_bits < 2:
        raise _unknown("pychop", fmt)
    wide = fmt.exponent_bits == 8
    specials, overflow = ("ieee", "infinity") if wide else ("none", "saturate")
    plain = Format(fmt.exponent_bits, fmt.mantissa_bits, specials=specials, overflow=overflow)
    least = plain.smallest_normal
    magnitude = abs(x)
    exponent = _exponent(magnitude)
    power = _power_of_two(exponent, x)
    small = power < least
    given = _where(small, _copysign((magnitude / least - 1 + 1) * least if fmt.subnormals == "keep" else 0.0, x), x)
    # Where the exponent is one too many, so are the steps to which it rounds.
    step = power * 2.0**-fmt.mantissa_bits
    raised = (power > magnitude) & ~small
    above = 2 ** (fmt.exponent_bits - 1)

    def finish(y: Any) -> Any:
        y = _where(raised, getattr(_library(x), _WHOLE[rounding])(x / step) * step, y)
        y = _where(exponent > above, _copysign(math.inf, x), y)
        y = _where((exponent == above) | (x == 0), 0.0, y)
        return _where(x != x, math.nan, y)

    return Request(plain, rounding, given, finish)


_WHOLE = {"nearest_even": "round", "up": "ceil", "down": "floor", "toward_zero": "trunc"}
_LIBRARIES = {"microxcaling": _microxcaling, "qtorch": _qtorch, "pychop": _pychop}
