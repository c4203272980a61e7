"""quantize, encode, decode and packed codes: one entry for NumPy arrays and torch tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from slipstick._core import lowbit as _core

from . import _arrays
from ._format import Format
from ._presets import preset
from ._profiles import with_profile
from ._scaled import Encoded, ScaledFormat, of_spec, run_decode, run_quantize, scaled_preset


def format(fmt: str | Format | ScaledFormat | Any) -> Any:
    """A format by its name.

    Names: presets of OCP, torch and ml_dtypes (these, and no others, are what `names()` lists; "float8_e4m3fn" and torch.float8_e4m3fn work
    as well), and patterns:
    "e5m10" and "e4m3b8fnuz" (exponent bits, mantissa bits, bias; nothing behind: IEEE, "fn": NaN only, "fnuz", "finite": numbers only),
    "binary8p4" (P3109), "int8", "uint4", "fixed16.8" (bits, fraction bits), "posit16", "posit8_1" (bits, exponent bits), and the `spec` of a format.
    Scaled: "mxfp8" (e4m3), "mxfp8_e5m2", "mxfp6" (e3m2), "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4", "nvfp4_16x16".
    A preset wins over a pattern: "e2m1" is OCP's FP4, without infinity. A format is given back.

    Args:
        fmt: one of these names, a type of torch or ml_dtypes, or a format.
    Raises:
        ValueError: no format has that name. TypeError: fmt is something else.
    """
    if isinstance(fmt, Format | ScaledFormat):
        return fmt
    if not isinstance(fmt, str):
        if _is_dtype(fmt):
            return format(str(fmt) if not isinstance(fmt, np.dtype) else fmt.name)
        raise TypeError(f"lowbit.format: fmt is a {type(fmt).__name__}; expected a Format or the name of one")
    if fmt.startswith("{"):
        try:
            return of_spec(fmt)
        except KeyError as error:
            raise ValueError(f"lowbit.format: fmt is {fmt!r}, a spec without {error}") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"lowbit.format: fmt is {fmt!r}, a spec that is no JSON: {error}") from None
    found = scaled_preset(fmt) or preset(fmt)
    if found is None:
        raise ValueError(f"lowbit.format: fmt is {fmt!r}; expected a preset such as 'e4m3fn', 'mxfp4', a pattern such as 'e5m10', 'int8'")
    return found


def _is_dtype(fmt: object) -> bool:
    return isinstance(fmt, np.dtype) or (type(fmt).__module__ == "torch" and type(fmt).__name__ == "dtype")


def quantize(
    x: Any,
    fmt: str | Format | ScaledFormat,
    *,
    rounding: str = "nearest_even",
    seed: int = 0,
    stream: int = 0,
    random_bits: int = 32,
    profile: str | None = None,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """x with each element rounded to a number of the format; exact.

    Args:
        x: NumPy array or torch tensor of any shape and strides, on the CPU or, with slipstick-cu13, on CUDA; float32, float64, bfloat16 or float16.
        fmt: a Format or what `format` takes.
        rounding: "nearest_even" (the even code of a tie), "nearest_away", "toward_zero", "up", "down", "to_odd" (the odd code if x is no
            number of the format), "stochastic" (away from zero with the probability of the distance to the nearer-to-zero neighbour).
        seed, stream: of the random numbers, 0 to 2^64 - 1 and 0 to 2^32 - 1; element i in C order takes number i of the stream.
        random_bits: 8, 16 or 32, of each random number; the probability is rounded to that many bits (half up).
        profile: None for the definition above; or one of PROFILES for what that converter gives, bit for bit, errors included. "microxcaling",
            "qtorch" and "pychop" take float32 only, and many times as long.
        out: array or tensor like x to write to; may be x.
        threads: default see slipstick.set_num_threads. Changes no bit.
    Returns:
        out, or a new array or tensor of x's type, dtype and shape. A number that the dtype cannot hold is rounded to it.
    Raises:
        TypeError, ValueError: an argument is of another type or value; the message names it.
        UnsupportedError: float64 with more than 21 mantissa bits; a tensor on a device without kernels; a profile on CUDA.
    Notes:
        CUDA gives the CPU's bits; the payload of a NaN may differ in scaled formats. Its kernels join torch's current stream.
        NaN stays NaN, in formats without NaN too. Infinity and what is beyond the greatest number become what the format's overflow says;
        toward_zero, to_odd, and up and down where they go towards zero, give the greatest number for finite x instead (IEEE 754, 7.4).
        float64 is rounded to odd to float32 first, which changes no result but the probabilities of "stochastic", by at most 2^-21 of a gap;
        in a code book also results of an x less than one float32 unit from a value, midpoint or threshold, which can become the other neighbour.
        Scaled formats: see ScaledFormat; a block that holds a NaN becomes NaN, infinity saturates.
        A torch tensor that requires a gradient gets the one of the identity (straight through). Under torch.func.vmap each member of the batch
        is quantized as by a call of its own: with its own scales, and the same random numbers as the others.
    """
    random = _arrays.random_numbers("quantize", seed, stream, random_bits)
    count = _arrays.thread_count("quantize", threads)
    if _arrays.is_torch(x):
        from . import _torch

        return _torch.quantize(x, fmt, rounding, random, profile, out, count)
    form = format(fmt)
    mode = _arrays.rounding_number("quantize", rounding)
    array = _arrays.float_array("quantize", x)
    if profile is not None:
        return _quantize_by_profile(profile, form, rounding, random, array, out, threads)
    result, copy_to = _arrays.result_array("quantize", out, array, array.dtype)
    dtype = _arrays.DTYPES[_arrays.name_of(array.dtype)]
    if isinstance(form, ScaledFormat):
        run_quantize(form, mode, random, dtype, array.shape, (_arrays.address(array), _arrays.address(result), 0, 0), count)
        return _delivered(result, copy_to)
    _core.quantize(form._core, mode, *random, dtype, _arrays.address(array), _arrays.address(result), array.size, count)
    return _delivered(result, copy_to)


def _quantize_by_profile(
    profile: str, form: Any, rounding: str, random: tuple[int, int, int], array: np.ndarray, out: Any, threads: int | None
) -> np.ndarray:
    seed, stream, random_bits = random
    with np.errstate(all="ignore"):
        request = with_profile("quantize", profile, form, rounding, array)
        y = quantize(request.x, request.fmt, rounding=request.rounding, seed=seed, stream=stream, random_bits=random_bits, threads=threads)
        y = y if request.finish is None else np.asarray(request.finish(y))
    if out is None:
        return y
    _arrays.result_array("quantize", out, array, array.dtype)
    out[...] = y
    return out


def encode(
    x: Any,
    fmt: str | Format | ScaledFormat,
    *,
    rounding: str = "nearest_even",
    seed: int = 0,
    stream: int = 0,
    random_bits: int = 32,
    profile: str | None = None,
    out: Any = None,
    threads: int | None = None,
) -> Any:
    """The codes of quantize(x, fmt, ...): what hardware would store, one code an element.

    Returns:
        For a scaled format an `Encoded`: codes, scales, tensor_scale. Else an array or tensor of x's shape, uint8 for formats of up to 8 bits, uint16 up to 16, else uint32; the code is in the lowest bits.
    Raises:
        As quantize; ValueError if x holds NaN and the format has no code for it. On CUDA only that check waits for the device, and only of a
        format without NaN; while a CUDA graph is captured there is none.
    """
    random = _arrays.random_numbers("encode", seed, stream, random_bits)
    count = _arrays.thread_count("encode", threads)
    if _arrays.is_torch(x):
        from . import _torch

        return _torch.encode(x, fmt, rounding, random, profile, out, count)
    form = format(fmt)
    mode = _arrays.rounding_number("encode", rounding)
    array = _arrays.float_array("encode", x)
    request = with_profile("encode", profile, form, rounding, array)
    form, array = request.fmt, request.x
    if isinstance(form, ScaledFormat):
        return _encode_scaled(form, mode, random, array, out, count)
    result, copy_to = _arrays.result_array("encode", out, array, form.code_dtype)
    dtype = _arrays.DTYPES[_arrays.name_of(array.dtype)]
    _core.encode(form._core, mode, *random, dtype, _arrays.address(array), _arrays.address(result), array.size, count)
    return _delivered(result, copy_to)


def decode(codes: Any, fmt: str | Format | ScaledFormat, *, dtype: Any = "float32", out: Any = None, threads: int | None = None) -> Any:
    """The numbers of codes, exactly; bits above the format's are ignored.

    Args:
        codes: array or tensor of the type that encode gives; an `Encoded` for a scaled format.
        fmt, out, threads: as of `quantize`.
        dtype: of the result: float32, float64, bfloat16 or float16, by name or as NumPy's or torch's type; a number that it cannot hold is rounded.
    Returns:
        Array or tensor of the shape of codes. The code of NaN, and those that a code book leaves out, are NaN.
    Raises:
        TypeError, ValueError, UnsupportedError: as `quantize`.
    """
    count = _arrays.thread_count("decode", threads)
    if _arrays.is_torch(codes[0] if isinstance(codes, tuple) and codes else codes):
        from . import _torch

        return _torch.decode(codes, fmt, dtype, out, count)
    form = format(fmt)
    if isinstance(form, ScaledFormat):
        return _decode_scaled(form, codes, dtype, out, count)
    array = _arrays.code_array("decode", codes, form.code_dtype)
    number, numpy_dtype = _numpy_dtype(dtype)
    result, copy_to = _arrays.result_array("decode", out, array, numpy_dtype)
    _core.decode(form._core, _arrays.address(array), number, _arrays.address(result), array.size, count)
    return _delivered(result, copy_to)


def _encode_scaled(form: ScaledFormat, mode: int, random: Any, array: np.ndarray, out: Any, count: int) -> Encoded:
    if out is not None:
        raise TypeError("encode: out is given with a scaled format, which makes two arrays; expected None")
    codes = np.empty(array.shape, form.element.code_dtype)
    scales = np.zeros(form.scale_shape(array.shape), form.scale_code_dtype)  # of channels without elements nothing is written
    addresses = (_arrays.address(array), 0, _arrays.address(codes), _arrays.address(scales))
    return Encoded(
        codes, scales, run_quantize(form, mode, random, _arrays.DTYPES[_arrays.name_of(array.dtype)], array.shape, addresses, count)
    )


def _decode_scaled(form: ScaledFormat, encoded: Any, dtype: Any, out: Any, count: int) -> np.ndarray:
    if not isinstance(encoded, tuple) or len(encoded) != 3:
        raise TypeError(
            f"decode: codes is a {type(encoded).__name__}; expected the Encoded of a scaled format: codes, scales, tensor_scale"
        )
    codes = _arrays.code_array("decode", encoded[0], form.element.code_dtype)
    scales = _arrays.code_array("decode", encoded[1], form.scale_code_dtype)
    if scales.shape != form.scale_shape(codes.shape):
        raise ValueError(
            f"decode: scales has shape {scales.shape}; expected {form.scale_shape(codes.shape)} for codes of shape {codes.shape}"
        )
    number, numpy_dtype = _numpy_dtype(dtype)
    result, copy_to = _arrays.result_array("decode", out, codes, numpy_dtype)
    run_decode(
        form, _arrays.address(codes), _arrays.address(scales), float(encoded[2]), number, _arrays.address(result), codes.shape, count
    )
    return _delivered(result, copy_to)


def _numpy_dtype(dtype: Any) -> tuple[int, Any]:
    name = _arrays.dtype_name("decode", dtype)
    if name == "bfloat16":
        import ml_dtypes

        return _arrays.DTYPES[name], ml_dtypes.bfloat16
    return _arrays.DTYPES[name], np.dtype(name)


def _delivered(result: np.ndarray, copy_to: np.ndarray | None) -> np.ndarray:
    if copy_to is None:
        return result
    copy_to[...] = result
    return copy_to


def pack(codes: Any, bits: int, *, threads: int | None = None) -> np.ndarray:
    """Codes of `bits` (1 to 8) bits side by side, the first in the lowest bits of the first byte: 4 bits as torch's float4_e2m1fn_x2 has them.

    Args:
        codes: uint8 array; read in C order, higher bits are ignored.
        threads: as of `quantize`.
    Returns:
        uint8 array of shape (ceil(codes.size * bits / 8),); what is left of the last byte is 0. Of a CUDA tensor: a tensor on its device.
    Raises:
        TypeError, ValueError: codes are of another type, or bits is out of range.
    """
    if (device := _cuda_of("pack", codes)) is not None:
        return device.pack(codes, _code_bits("pack", bits))
    array = _arrays.code_array("pack", codes, "uint8")
    width = _code_bits("pack", bits)
    packed = np.empty(_core.packed_bytes(array.size, width), np.uint8)
    _core.pack(_arrays.address(array), _arrays.address(packed), array.size, width, _arrays.thread_count("pack", threads))
    return packed


def unpack(packed: Any, bits: int, count: int, *, threads: int | None = None) -> np.ndarray:
    """The first `count` codes of what `pack` gave: uint8 array of shape (count,).

    Args:
        packed: uint8 array. count: of codes, 0 or more. bits, threads: as of `pack`.
    Raises:
        TypeError, ValueError: as `pack`, or packed is shorter than that.
    """
    device = _cuda_of("unpack", packed)
    array = _arrays.code_array("unpack", packed, "uint8") if device is None else packed
    width = _code_bits("unpack", bits)
    size = array.size if device is None else packed.numel()
    if not 0 <= count <= 8 * size or size < _core.packed_bytes(count, width):
        raise ValueError(f"unpack: packed has {size} bytes; expected at least count * bits / 8 with count {count} and bits {width}")
    if device is not None:
        return device.unpack(packed, width, count)
    codes = np.empty(count, np.uint8)
    _core.unpack(_arrays.address(array), _arrays.address(codes), count, width, _arrays.thread_count("unpack", threads))
    return codes


def _cuda_of(where: str, x: Any) -> Any:
    """The module that does it for a CUDA tensor; None for anything else."""
    if not _arrays.is_torch(x) or x.device.type != "cuda":
        return None
    from . import _torch

    _torch._require_device(where, x)
    from . import _cuda

    return _cuda


def _code_bits(where: str, bits: Any) -> int:
    width = _arrays.integer(where, "bits", bits)
    if not 1 <= width <= 8:
        raise ValueError(f"{where}: bits is {width}; expected 1 to 8")
    return width
