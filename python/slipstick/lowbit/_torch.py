"""The same for torch tensors: operators torch.ops.slipstick.lowbit_*, each with schema, CPU implementation, fake, autograd and vmap; those for
CUDA are in _cuda.py.

The format travels through an operator as its `spec`, a string, so that torch.compile can trace it. Gradients pass straight through a rounding, those
of a product are of the product without its roundings.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from slipstick import UnsupportedError
from slipstick._arguments import torch_thread_count
from slipstick._core import lowbit as _core
from slipstick._extension import cuda_extension
from slipstick._torch_dispatch import needs_dispatcher, records_gradient

from . import _arrays
from ._format import Format
from ._matmul import check_accumulator
from ._profiles import with_profile
from ._scaled import Encoded, ScaledFormat, of_spec, run_decode, run_quantize

DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}  # as Dtype in slipstick/lowbit.h
CODE_DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "uint32": torch.uint32}
_HAS_CUDA = cuda_extension() is not None  # asked once, so that torch.compile meets a constant

_library = torch.library.Library("slipstick", "FRAGMENT")
_RANDOM = "int seed, int stream, int random_bits"
_library.define(f"lowbit_quantize(Tensor x, str format, str rounding, {_RANDOM}, int threads) -> Tensor")
_library.define(f"lowbit_quantize_(Tensor(a!) x, str format, str rounding, {_RANDOM}, int threads) -> ()")
_library.define(f"lowbit_encode(Tensor x, str format, str rounding, {_RANDOM}, int threads) -> Tensor")
_library.define("lowbit_decode(Tensor codes, str format, ScalarType dtype, int threads) -> Tensor")
_library.define("lowbit_matmul(Tensor a, Tensor b, str accumulate, int round_every, str rounding, int threads) -> Tensor")


def _check_float(where: str, x: torch.Tensor) -> None:
    if x.dtype not in DTYPES:
        raise TypeError(f"{where}: x has dtype {x.dtype}; expected {', '.join(_arrays.DTYPES)}")


def _on_cpu(where: str, x: torch.Tensor) -> torch.Tensor:
    if x.device.type != "cpu":
        raise UnsupportedError(f"{where}: x is on {x.device}; expected the CPU, this build has no kernels for others")
    return _plain(where, x)


def _plain(where: str, x: torch.Tensor) -> torch.Tensor:
    if x.layout != torch.strided:
        raise TypeError(f"{where}: x has layout {x.layout}; expected torch.strided")
    return x.detach().resolve_neg().contiguous()


def _unsigned(seed: int) -> int:
    return seed % 2**64  # operators carry signed numbers


def _signed(seed: int) -> int:
    return seed - 2**64 if seed >= 2**63 else seed


def _round_into(
    x: torch.Tensor, y: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int
) -> None:
    threads = torch_thread_count(threads)
    fmt, mode = of_spec(format), _arrays.rounding_number("quantize", rounding)
    random = (_unsigned(seed), stream, random_bits)
    if isinstance(fmt, ScaledFormat):
        run_quantize(fmt, mode, random, DTYPES[x.dtype], x.shape, (x.data_ptr(), y.data_ptr(), 0, 0), threads)
        return
    _core.quantize(fmt._core, mode, *random, DTYPES[x.dtype], x.data_ptr(), y.data_ptr(), x.numel(), threads)


def _quantize_cpu(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> torch.Tensor:
    _check_float("quantize", x)
    x = _on_cpu("quantize", x)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _round_into(x, y, format, rounding, seed, stream, random_bits, threads)
    return y


def _quantize_cpu_(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> None:
    _check_float("quantize", x)
    plain = _on_cpu("quantize", x)
    _round_into(plain, plain, format, rounding, seed, stream, random_bits, threads)
    if plain.data_ptr() != x.data_ptr():
        x.copy_(plain)


def _quantize_fake(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> torch.Tensor:
    _check_float("quantize", x)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _quantize_fake_(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> None:
    _check_float("quantize", x)


def _straight_through(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    return gradient, None, None, None, None, None, None


def _nothing_to_keep(ctx: Any, inputs: Any, output: Any) -> None:
    pass


def _encode_cpu(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> torch.Tensor:
    threads = torch_thread_count(threads)
    _check_float("encode", x)
    x = _on_cpu("encode", x)
    fmt, mode = Format.from_spec(format), _arrays.rounding_number("encode", rounding)
    codes = torch.empty(x.shape, dtype=CODE_DTYPES[fmt.code_dtype], device=x.device)
    random = (_unsigned(seed), stream, random_bits)
    _core.encode(fmt._core, mode, *random, DTYPES[x.dtype], x.data_ptr(), codes.data_ptr(), x.numel(), threads)
    return codes


def _encode_fake(x: torch.Tensor, format: str, rounding: str, seed: int, stream: int, random_bits: int, threads: int) -> torch.Tensor:
    _check_float("encode", x)
    return x.new_empty(x.shape, dtype=CODE_DTYPES[Format.from_spec(format).code_dtype])


def _check_codes(codes: torch.Tensor, fmt: Format, dtype: torch.dtype) -> None:
    if codes.dtype != CODE_DTYPES[fmt.code_dtype]:
        raise TypeError(f"decode: codes has dtype {codes.dtype}; expected {fmt.code_dtype}")
    if dtype not in DTYPES:
        raise TypeError(f"decode: dtype is {dtype}; expected {', '.join(_arrays.DTYPES)}")


def _decode_cpu(codes: torch.Tensor, format: str, dtype: torch.dtype, threads: int) -> torch.Tensor:
    threads = torch_thread_count(threads)
    fmt = Format.from_spec(format)
    _check_codes(codes, fmt, dtype)
    codes = _on_cpu("decode", codes)
    y = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    _core.decode(fmt._core, codes.data_ptr(), DTYPES[dtype], y.data_ptr(), codes.numel(), threads)
    return y


def _decode_fake(codes: torch.Tensor, format: str, dtype: torch.dtype, threads: int) -> torch.Tensor:
    _check_codes(codes, Format.from_spec(format), dtype)
    return codes.new_empty(codes.shape, dtype=dtype)


def _matmul_cpu(a: torch.Tensor, b: torch.Tensor, accumulate: str, round_every: int, rounding: str, threads: int) -> torch.Tensor:
    _arrays.check_operands("matmul", a, b)
    a, b = (_on_cpu("matmul", x) for x in (a, b))
    product = torch.empty(a.shape[0], b.shape[1], dtype=torch.float32, device=a.device)
    core = Format.from_spec(accumulate)._core if accumulate else None
    addresses, sizes = (a.data_ptr(), b.data_ptr(), product.data_ptr()), (a.shape[0], a.shape[1], b.shape[1])
    _core.matmul(core, _arrays.rounding_number("matmul", rounding), round_every, *addresses, *sizes, torch_thread_count(threads))
    return product


def _matmul_fake(a: torch.Tensor, b: torch.Tensor, accumulate: str, round_every: int, rounding: str, threads: int) -> torch.Tensor:
    _arrays.check_operands("matmul", a, b)
    return a.new_empty(a.shape[0], b.shape[1])


def _keep_operands(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[0], inputs[1])


def _of_product(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    a, b = ctx.saved_tensors
    wants_a, wants_b = ctx.needs_input_grad[:2]
    return gradient @ b.T if wants_a else None, a.T @ gradient if wants_b else None, None, None, None, None


def _one_by_one(op: Any, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[torch.Tensor, int]:
    """vmap by a loop, where an element's result depends on its place: random numbers and scales are those of each member of the batch."""
    members = [
        op(*(x if dim is None else x.select(dim, i) for x, dim in zip(arguments, in_dims, strict=True))) for i in range(info.batch_size)
    ]
    return torch.stack(members), 0


def _at_once(op: Any, info: Any, in_dims: tuple[Any, ...], x: torch.Tensor, format: str, *arguments: Any) -> tuple[torch.Tensor, int]:
    """vmap of what goes element by element."""
    if '"kind":"scaled"' in format or "stochastic" in arguments:
        return _one_by_one(op, info, in_dims, x, format, *arguments)
    return op(x, format, *arguments), in_dims[0]


_KERNELS: dict[str, Any] = {}  # on the processor
for _name, _cpu, _fake in (
    ("lowbit_quantize", _quantize_cpu, _quantize_fake),
    ("lowbit_quantize_", _quantize_cpu_, _quantize_fake_),
    ("lowbit_encode", _encode_cpu, _encode_fake),
    ("lowbit_decode", _decode_cpu, _decode_fake),
    ("lowbit_matmul", _matmul_cpu, _matmul_fake),
):
    _KERNELS[_name] = _cpu
    _library.impl(_name, _cpu, "CPU")
    torch.library.register_fake(f"slipstick::{_name}", _fake, lib=_library)
torch.library.register_autograd("slipstick::lowbit_quantize", _straight_through, lib=_library)
torch.library.register_autograd("slipstick::lowbit_matmul", _of_product, setup_context=_keep_operands, lib=_library)
_VMAP = {"lowbit_quantize": _at_once, "lowbit_encode": _at_once, "lowbit_decode": _at_once, "lowbit_matmul": _one_by_one}
if hasattr(torch.library, "register_vmap"):
    for _name, _vmap in _VMAP.items():
        torch.library.register_vmap(f"slipstick::{_name}", functools.partial(_vmap, getattr(torch.ops.slipstick, _name)), lib=_library)

if _HAS_CUDA:
    from . import _cuda

    _cuda.register(_library)


# torch.func and forward-mode derivatives do not go through the autograd of an operator, but through that of a Function.


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> torch.Tensor:
        return torch.ops.slipstick.lowbit_quantize(*arguments)

    setup_context = staticmethod(_nothing_to_keep)
    backward = staticmethod(_straight_through)

    @staticmethod
    def jvp(ctx: Any, tangent: Any, *_: Any) -> Any:
        return tangent.clone()

    @staticmethod
    def vmap(*arguments: Any) -> Any:
        return _at_once(_Quantize.apply, *arguments)


class _Matmul(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> torch.Tensor:
        return torch.ops.slipstick.lowbit_matmul(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _keep_operands(ctx, inputs, output)
        ctx.save_for_forward(inputs[0], inputs[1])

    backward = staticmethod(_of_product)

    @staticmethod
    def jvp(ctx: Any, tangent_a: Any, tangent_b: Any, *_: Any) -> Any:
        a, b = ctx.saved_tensors
        parts = [x @ y for x, y in ((tangent_a, b), (a, tangent_b)) if x is not None and y is not None]
        return sum(parts[1:], parts[0])

    @staticmethod
    def vmap(*arguments: Any) -> Any:
        return _one_by_one(_Matmul.apply, *arguments)


class _QuantizeEagerly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        return _KERNELS["lowbit_quantize"](*arguments)

    backward = staticmethod(_straight_through)


class _MatmulEagerly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        _keep_operands(ctx, arguments, None)
        return _KERNELS["lowbit_matmul"](*arguments)

    backward = staticmethod(_of_product)


_FUNCTIONS = {"lowbit_quantize": (_Quantize, _QuantizeEagerly), "lowbit_matmul": (_Matmul, _MatmulEagerly)}


def _call(name: str, *arguments: Any) -> Any:
    """The operator of that name, by the shortest way that gives the same."""
    if not torch.compiler.is_compiling():
        transformed = torch._C._functorch.peek_interpreter_stack() is not None
        if transformed or torch.autograd.forward_ad._current_level >= 0:
            if name in _FUNCTIONS:
                return _FUNCTIONS[name][0].apply(*arguments)
        elif not needs_dispatcher(arguments):
            if name in _FUNCTIONS and records_gradient(arguments):
                return _FUNCTIONS[name][1].apply(*arguments)
            return _KERNELS[name](*arguments)
    return getattr(torch.ops.slipstick, name)(*arguments)


# ---- what the public functions call ---------------------------------------------------------------------------------------------------------


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _spec_of_name(name: Any) -> str:
    from ._quantize import format

    return format(name).spec


def _spec_of(fmt: Any) -> str:
    """Apart from `format` so that torch.compile takes it as a constant instead of tracing how a format is made."""
    return fmt.spec if isinstance(fmt, Format | ScaledFormat) else _spec_of_name(fmt)


def _check_out(where: str, x: torch.Tensor, out: Any, dtype: torch.dtype) -> None:
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"{where}: out is a {type(out).__name__}; expected a tensor like x")
    if out.shape != x.shape or out.dtype != dtype or out.device != x.device:
        raise ValueError(
            f"{where}: out is {out.dtype} of shape {tuple(out.shape)} on {out.device}; expected {dtype} of shape {tuple(x.shape)} on {x.device}"
        )


def _require_cpu(where: str, x: torch.Tensor) -> None:
    if x.device.type not in ("cpu", "meta"):
        raise UnsupportedError(f"{where}: x is on {x.device}; expected the CPU, this build has no kernels for others")


def _require_device(where: str, x: torch.Tensor, profile: str | None = None) -> None:
    """Of what has kernels for CUDA too, where they are installed."""
    if x.device.type != "cuda":
        return _require_cpu(where, x)
    if not _HAS_CUDA:
        raise UnsupportedError(f"{where}: x is on {x.device}; expected the CPU, or slipstick-cu13 installed beside slipstick")
    if profile is not None:
        raise UnsupportedError(f"{where}: profile is {profile!r} and x is on {x.device}; expected the CPU")


def quantize(
    x: torch.Tensor, fmt: Any, rounding: str, random: tuple[int, int, int], profile: str | None, out: Any, threads: int
) -> torch.Tensor:
    _require_device("quantize", x, profile)
    seed, stream, random_bits = random
    if profile is not None:
        request = with_profile("quantize", profile, of_spec(_spec_of(fmt)), rounding, x)
        y = quantize(request.x, request.fmt, request.rounding, random, None, None, threads)
        y = y if request.finish is None else request.finish(y)
        if out is None:
            return y
        _check_out("quantize", x, out, x.dtype)
        return out.copy_(y)
    arguments = (_spec_of(fmt), rounding, _signed(seed), stream, random_bits, threads)
    if out is not None:
        _check_out("quantize", x, out, x.dtype)
        if out is x:
            torch.ops.slipstick.lowbit_quantize_(x, *arguments)
            if not torch.compiler.is_compiling() and not x.is_inference():
                torch.autograd.graph.increment_version(x)  # so that autograd refuses what it saved of x
            return x
        return out.copy_(_call("lowbit_quantize", x, *arguments))
    return _call("lowbit_quantize", x, *arguments)


def matmul(a: torch.Tensor, b: torch.Tensor, accumulate: Any, round_every: int, rounding: str, threads: int) -> torch.Tensor:
    _require_device("matmul", a)
    _require_device("matmul", b)
    spec = "" if accumulate is None else _spec_of(accumulate)
    if '"kind":"scaled"' in spec:
        check_accumulator(of_spec(spec))
    return _call("lowbit_matmul", a, b, spec, round_every, rounding, threads)


def encode(x: torch.Tensor, fmt: Any, rounding: str, random: tuple[int, int, int], profile: str | None, out: Any, threads: int) -> Any:
    _require_device("encode", x, profile)
    seed, stream, random_bits = random
    if profile is not None:
        request = with_profile("encode", profile, of_spec(_spec_of(fmt)), rounding, x)
        fmt, x = request.fmt, request.x
    spec = _spec_of(fmt)
    if '"kind":"scaled"' in spec:
        return _encode_scaled(of_spec(spec), x, rounding, random, out, threads)
    codes = _call("lowbit_encode", x, spec, rounding, _signed(seed), stream, random_bits, threads)
    if out is None:
        return codes
    _check_out("encode", x, out, codes.dtype)
    return out.copy_(codes)


def _encode_scaled(fmt: Any, x: torch.Tensor, rounding: str, random: tuple[int, int, int], out: Any, threads: int) -> Encoded:
    from ._quantize import encode

    if x.device.type == "cuda":
        from . import _cuda

        if out is not None:
            raise TypeError("encode: out is given with a scaled format, which makes two tensors; expected None")
        return _cuda.encode_scaled(fmt, x, rounding, random)
    _check_float("encode", x)
    array: Any = _on_cpu("encode", x.float() if x.dtype == torch.bfloat16 else x).numpy()
    seed, stream, random_bits = random
    codes, scales, tensor_scale = encode(
        array, fmt, rounding=rounding, seed=seed, stream=stream, random_bits=random_bits, out=out, threads=threads or None
    )
    return Encoded(torch.from_numpy(codes), torch.from_numpy(scales), tensor_scale)


def decode(codes: Any, fmt: Any, dtype: Any, out: Any, threads: int) -> torch.Tensor:
    first = codes[0] if isinstance(codes, tuple) else codes
    _require_device("decode", first)
    torch_dtype = dtype if isinstance(dtype, torch.dtype) else getattr(torch, _arrays.dtype_name("decode", dtype))
    spec = _spec_of(fmt)
    if '"kind":"scaled"' in spec:
        numbers = _decode_scaled(of_spec(spec), codes, torch_dtype, threads)
    else:
        numbers = _call("lowbit_decode", codes, spec, torch_dtype, threads)
    if out is None:
        return numbers
    _check_out("decode", first, out, torch_dtype)
    return out.copy_(numbers)


def _decode_scaled(fmt: Any, encoded: Any, dtype: torch.dtype, threads: int) -> torch.Tensor:
    threads = torch_thread_count(threads)
    if not isinstance(encoded, tuple) or len(encoded) != 3:
        raise TypeError(
            f"decode: codes is a {type(encoded).__name__}; expected the Encoded of a scaled format: codes, scales, tensor_scale"
        )
    codes, scales = encoded[:2]
    _check_codes(codes, fmt.element, dtype)
    if tuple(scales.shape) != fmt.scale_shape(codes.shape) or scales.dtype != CODE_DTYPES[fmt.scale_code_dtype]:
        raise ValueError(
            f"decode: scales is {scales.dtype} of shape {tuple(scales.shape)}; expected {fmt.scale_code_dtype} of shape {fmt.scale_shape(codes.shape)}"
        )
    if codes.device.type == "cuda":
        from . import _cuda

        return _cuda.decode_scaled(fmt, codes, scales, encoded[2], dtype)
    codes, scales = (_on_cpu("decode", tensor) for tensor in (codes, scales))
    y = torch.empty(codes.shape, dtype=dtype, device=codes.device)
    run_decode(fmt, codes.data_ptr(), scales.data_ptr(), float(encoded[2]), DTYPES[dtype], y.data_ptr(), codes.shape, threads)
    return y
