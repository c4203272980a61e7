"""The operators of _torch.py for CUDA tensors, by slipstick._cuda. Results and workspace are torch's; kernels join torch's current stream of the
tensor's device; the host waits for it only where encode must refuse NaN, and for the numbers of statistics.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from slipstick._core import lowbit as _core
from slipstick._extension import cuda_extension

from . import _arrays
from ._format import Format
from ._scaled import Encoded, ScaledFormat, of_spec
from ._torch import CODE_DTYPES, DTYPES, _check_codes, _check_float, _plain, _unsigned

if (extension := cuda_extension()) is None:
    raise ImportError("slipstick.lowbit: slipstick._cuda is not installed")
_kernels = extension.lowbit

Random = tuple[int, int, int]


def _on_cuda(where: str, x: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    if x.device.type != "cuda" or (device is not None and x.device != device):
        raise ValueError(f"{where}: a tensor is on {x.device}; expected {device or 'cuda'}, as the others")
    return _plain(where, x)


def _place(x: torch.Tensor) -> tuple[int, int]:
    return x.device.index, torch.cuda.current_stream(x.device).cuda_stream


@functools.lru_cache(maxsize=1024)
def _numbers(spec: str) -> bytes:
    return _core.kernel_numbers(Format.from_spec(spec)._core)


@functools.lru_cache(maxsize=64)
def _tables(spec: str, device: torch.device) -> torch.Tensor | None:
    """Of a code book, in the device's memory."""
    tables = _core.kernel_tables(Format.from_spec(spec)._core)
    return torch.frombuffer(bytearray(tables), dtype=torch.uint8).to(device) if tables else None


def _format(fmt: Format, x: torch.Tensor) -> tuple[bytes, int]:
    tables = _tables(fmt.spec, x.device)
    if tables is None:
        return _numbers(fmt.spec), 0
    tables.record_stream(torch.cuda.current_stream(x.device))  # they may leave the cache while kernels read them
    return _numbers(fmt.spec), tables.data_ptr()


def _nan_counter(x: torch.Tensor, wanted: bool) -> torch.Tensor | None:
    """What counts NaN where there is no code for them. While a graph is captured nobody can be told, so then they are not refused."""
    if not wanted or torch.cuda.is_current_stream_capturing():
        return None
    return torch.zeros((), dtype=torch.int32, device=x.device)


def _address(x: torch.Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


# ---- one format -----------------------------------------------------------------------------------------------------------------------------


def _round_into(x: torch.Tensor, y: torch.Tensor, format: str, rounding: str, random: Random) -> None:
    fmt, mode = of_spec(format), _arrays.rounding_number("quantize", rounding)
    if isinstance(fmt, ScaledFormat):
        _run_blocks(fmt, mode, random, x, y, None, None)
        return
    _kernels.quantize(_place(x), _format(fmt, x), mode, *random, DTYPES[x.dtype], x.data_ptr(), y.data_ptr(), 0, x.numel(), 0)


def _quantize(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> torch.Tensor:
    _check_float("quantize", x)
    x = _on_cuda("quantize", x)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _round_into(x, y, format, rounding, (_unsigned(seed), stream, random_bits))
    return y


def _quantize_(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> None:
    _check_float("quantize", x)
    plain = _on_cuda("quantize", x)
    _round_into(plain, plain, format, rounding, (_unsigned(seed), stream, random_bits))
    if plain.data_ptr() != x.data_ptr():
        x.copy_(plain)


def _encode(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> torch.Tensor:
    _check_float("encode", x)
    x = _on_cuda("encode", x)
    fmt, mode = Format.from_spec(format), _arrays.rounding_number("encode", rounding)
    codes = torch.empty(x.shape, dtype=CODE_DTYPES[fmt.code_dtype], device=x.device)
    nan = _nan_counter(x, not fmt.has_nan)
    random = (_unsigned(seed), stream, random_bits)
    _kernels.quantize(
        _place(x), _format(fmt, x), mode, *random, DTYPES[x.dtype], x.data_ptr(), 0, codes.data_ptr(), x.numel(), _address(nan)
    )
    if nan is not None and (times := nan.item()):
        raise ValueError(f"encode: x holds NaN ({times} times), which the format has no code for")
    return codes


def _decode(codes: torch.Tensor, format: str, dtype: torch.dtype, threads: int) -> torch.Tensor:
    fmt = Format.from_spec(format)
    _check_codes(codes, fmt, dtype)
    codes = _on_cuda("decode", codes)
    y = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    _kernels.decode(_place(codes), _format(fmt, codes), codes.data_ptr(), DTYPES[dtype], y.data_ptr(), codes.numel())
    return y


def _matmul(a: torch.Tensor, b: torch.Tensor, accumulate: str, round_every: int, rounding: str, threads: int) -> torch.Tensor:
    _arrays.check_operands("matmul", a, b)
    a, b = _on_cuda("matmul", a), _on_cuda("matmul", b, a.device)
    product = torch.empty(a.shape[0], b.shape[1], dtype=torch.float32, device=a.device)
    accumulator = _format(Format.from_spec(accumulate), a) if accumulate else (b"", 0)
    mode = _arrays.rounding_number("matmul", rounding)
    sizes = (a.shape[0], a.shape[1], b.shape[1])
    _kernels.matmul(_place(a), accumulator, mode, round_every, a.data_ptr(), b.data_ptr(), product.data_ptr(), *sizes)
    return product


def statistics(x: torch.Tensor, fmt: Format, mode: int, random: Random, out: torch.Tensor | None) -> dict[str, Any]:
    """What _core.statistics returns. out: like x, takes the results."""
    plain = _on_cuda("statistics", x)
    target = None if out is None else torch.empty_like(plain, memory_format=torch.contiguous_format)
    count = plain.numel()
    found = torch.empty(_kernels.statistics_bytes(count), dtype=torch.uint8, device=x.device)
    addresses = plain.data_ptr(), _address(target), count, found.data_ptr()
    _kernels.statistics(_place(x), _format(fmt, x), mode, *random, DTYPES[x.dtype], *addresses)
    if out is not None and target is not None:
        out.detach().copy_(target)
    on_host = found.cpu()
    return _kernels.merged_statistics(on_host.data_ptr(), count)


def register(library: torch.library.Library) -> None:
    for name, function in (
        ("lowbit_quantize", _quantize),
        ("lowbit_quantize_", _quantize_),
        ("lowbit_encode", _encode),
        ("lowbit_decode", _decode),
        ("lowbit_matmul", _matmul),
    ):
        library.impl(name, function, "CUDA")


# ---- packed codes ---------------------------------------------------------------------------------------------------------------------------


def _check_bytes(where: str, name: str, x: torch.Tensor) -> torch.Tensor:
    if x.dtype != torch.uint8:
        raise TypeError(f"{where}: {name} has dtype {x.dtype}; expected uint8")
    return _on_cuda(where, x)


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    codes = _check_bytes("pack", "codes", codes)
    packed = torch.empty(_core.packed_bytes(codes.numel(), bits), dtype=torch.uint8, device=codes.device)
    _kernels.pack(_place(codes), codes.data_ptr(), packed.data_ptr(), codes.numel(), bits)
    return packed


def unpack(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    packed = _check_bytes("unpack", "packed", packed)
    codes = torch.empty(count, dtype=torch.uint8, device=packed.device)
    _kernels.unpack(_place(packed), packed.data_ptr(), codes.data_ptr(), count, bits)
    return codes


# ---- scaled formats -------------------------------------------------------------------------------------------------------------------------


def _scaling(fmt: ScaledFormat, x: torch.Tensor) -> tuple[bytes, tuple[bytes, int]]:
    scaling = _core.kernel_scaling(fmt.element._core, fmt._scaling(1.0))
    return scaling, (b"", 0) if fmt._scale is None else _format(fmt._scale, x)


def _tensor_scale(fmt: ScaledFormat, x: torch.Tensor) -> torch.Tensor | None:
    """The scale of the whole tensor as a number of the device, or None for 1."""
    if not fmt.two_level:
        return None
    greatest = torch.empty((), dtype=torch.int32, device=x.device)
    scale = torch.empty((), dtype=torch.float32, device=x.device)
    _kernels.tensor_scale(
        _place(x), DTYPES[x.dtype], x.data_ptr(), x.numel(), fmt.element.max, fmt._scale.max, greatest.data_ptr(), scale.data_ptr()
    )
    return scale


def _run_blocks(
    fmt: ScaledFormat,
    mode: int,
    random: Random,
    x: torch.Tensor,
    y: torch.Tensor | None,
    codes: torch.Tensor | None,
    scales: torch.Tensor | None,
) -> torch.Tensor | None:
    sizes = fmt._block_sizes(x.shape)
    whole = _tensor_scale(fmt, x)
    workspace = torch.empty(fmt._block_count(x.shape), dtype=torch.int32, device=x.device)
    nan = _nan_counter(x, codes is not None and not fmt.element.has_nan and fmt._scale is not None and not fmt._scale.has_nan)
    addresses = [_address(tensor) for tensor in (x, y, codes, scales, workspace, nan)]
    _kernels.quantize_blocks(
        _place(x), _format(fmt.element, x), *_scaling(fmt, x), _address(whole), sizes, mode, *random, DTYPES[x.dtype], *addresses
    )
    if nan is not None and nan.item():
        raise ValueError("encode: x holds NaN, which neither element nor scale has a code for")
    return whole


def encode_scaled(fmt: ScaledFormat, x: torch.Tensor, rounding: str, random: Random) -> Encoded:
    _check_float("encode", x)
    x = _on_cuda("encode", x)
    codes = torch.empty(x.shape, dtype=CODE_DTYPES[fmt.element.code_dtype], device=x.device)
    scales = torch.zeros(fmt.scale_shape(x.shape), dtype=CODE_DTYPES[fmt.scale_code_dtype], device=x.device)
    whole: Any = _run_blocks(fmt, _arrays.rounding_number("encode", rounding), random, x, None, codes, scales)
    return Encoded(codes, scales, 1.0 if whole is None else whole)


def decode_scaled(fmt: ScaledFormat, codes: torch.Tensor, scales: torch.Tensor, tensor_scale: Any, dtype: torch.dtype) -> torch.Tensor:
    codes = _on_cuda("decode", codes)
    scales = _on_cuda("decode", scales, codes.device)
    whole = torch.as_tensor(tensor_scale, dtype=torch.float32, device=codes.device)
    if whole.numel() != 1:
        raise ValueError(f"decode: tensor_scale has shape {tuple(whole.shape)}; expected one number")
    y = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    scaling, scale = _scaling(fmt, codes)
    _kernels.decode_blocks(
        _place(codes),
        _format(fmt.element, codes),
        scaling,
        scale,
        whole.data_ptr(),
        fmt._block_sizes(codes.shape),
        codes.data_ptr(),
        scales.data_ptr(),
        DTYPES[dtype],
        y.data_ptr(),
    )
    return y
