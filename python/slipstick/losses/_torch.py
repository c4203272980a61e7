"""torch operators over the core, torch.ops.slipstick.*: schema, kernel, fake and derivative of each.

The core is given addresses; kernels for CUDA are in _cuda.py. Gradients of statistics are one operator of their own, which has no derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from slipstick._arguments import torch_thread_count
from slipstick._core import losses as _core
from slipstick._errors import UnsupportedError
from slipstick._extension import cuda_extension

from . import _head
from ._head import call_as
from ._operators import ANY_DEVICE, call, register
from ._statistics import TopK

HAS_CUDA = cuda_extension() is not None  # asked once, so that torch.compile meets a constant
_HEAD_ARGUMENTS = "Tensor hidden, Tensor weight, Tensor? targets, Tensor? bias"
_HEAD_OPTIONS = "str map, float cap, float scale, int ignore_index, int workspace, float filter_eps, int threads"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def sum_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


TENSORS_OF_TWO_HEADS = 6


def numbers_a_row(*rows: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """As kernels read them."""
    return tuple(None if x is None else x.to(torch.float64).contiguous() for x in rows)


def address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


class CoreHead:
    """Tensors as the core takes them, kept alive beside its view of them."""

    def __init__(
        self,
        function: str,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor | None,
        bias: torch.Tensor | None,
        map: str,
        cap: float,
        scale: float,
        ignore_index: int,
    ) -> None:
        check_tensors(function, hidden, weight, targets, bias)
        self.rows, self.width = hidden.shape
        self.vocabulary = weight.shape[0]
        self.function, self.ignore_index = function, ignore_index
        self.hidden = hidden if hidden.stride(1) == 1 else hidden.contiguous()
        self.weight = weight if weight.stride(1) == 1 else weight.contiguous()
        self.targets = None if targets is None else targets.contiguous()
        self.bias = None if bias is None else bias.to(sum_type(hidden.dtype)).contiguous()
        self.core = _core.Head(
            _name(hidden.dtype),
            address(self.hidden),
            address(self.weight),
            address(self.bias),
            self.rows,
            self.width,
            self.vocabulary,
            self.hidden.stride(0),
            self.weight.stride(0),
            scale,
            map,
            cap,
            address(self.targets),
            ignore_index,
        )

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of the core on this head. The core looks at the targets before anything else; a wrong one is an IndexError, as in torch."""
        try:
            return function(self.core, *arguments)
        except ValueError:
            self.check_targets()
            raise

    def check_targets(self) -> None:
        if self.targets is not None:
            _head.check_target_range(self.function, self.targets, self.vocabulary, self.ignore_index)


def check_tensors(
    function: str,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    names: tuple[str, str] = ("hidden", "weight"),
    *,
    on_cuda: bool = False,
) -> None:
    """Raises where tensors do not make a head on the processor, or, with on_cuda, on one device."""
    bias_name = _head.bias_name(names[0])
    for name, tensor in ((names[0], hidden), (names[1], weight), ("targets", targets), (bias_name, bias)):
        if tensor is None:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{function}: {name} is a {type(tensor).__name__}; expected a torch.Tensor, as {names[0]} is one")
        if on_cuda and tensor.device.type == "cuda":
            if not HAS_CUDA:
                raise UnsupportedError(
                    f"{function}: {name} is on {tensor.device}; expected cpu, or slipstick-cu13 installed beside slipstick"
                )
        elif tensor.device.type not in ("cpu", "meta"):
            raise ValueError(f"{function}: {name} is on {tensor.device}; expected cpu")
        if tensor.device != hidden.device:
            raise ValueError(f"{function}: {name} is on {tensor.device}; expected {hidden.device}, as {names[0]} is there")
    _head.check_shapes(function, hidden, weight, targets, bias, names)
    _head.check_dtypes(function, _name(hidden.dtype), _name(weight.dtype), names)
    if targets is not None and targets.dtype != torch.int64:
        raise TypeError(f"{function}: targets has dtype {_name(targets.dtype)}; expected int64")
    if bias is not None and not bias.dtype.is_floating_point:
        raise TypeError(f"{function}: {bias_name} has dtype {_name(bias.dtype)}; expected a floating-point one")


# ---- statistics ---------------------------------------------------------------------------------------------------------------------------

_OUTPUTS = (*_head.CORE_STATISTICS, "top_values", "top_indices")
_STATISTICS = (
    f"row_statistics({_HEAD_ARGUMENTS}, Tensor? factor, int want, int topk, {_HEAD_OPTIONS}) -> ("
    + ", ".join(f"Tensor {name}" for name in _OUTPUTS)
    + ")"
)


def _bits(parts: tuple[str, ...]) -> int:
    return sum(1 << i for i, name in enumerate(_head.CORE_STATISTICS) if name in parts)


def _scaled(scale: float, factor: torch.Tensor | None) -> float:
    """The scale of the logits; its part that is learnt comes as a tensor."""
    return scale if factor is None else scale * float(factor)


def empty_statistics(hidden: torch.Tensor, want: int, topk: int) -> list[torch.Tensor]:
    rows = hidden.shape[0]
    out = []
    for i, name in enumerate(_head.CORE_STATISTICS):
        kind = torch.int64 if name == "argmax" else torch.float64
        out.append(hidden.new_empty((rows if want >> i & 1 else 0,), dtype=kind))
    out.append(hidden.new_empty((rows, topk), dtype=torch.float64))
    out.append(hidden.new_empty((rows, topk), dtype=torch.int64))
    return out


def _row_statistics(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    factor: torch.Tensor | None,
    want: int,
    topk: int,
    map: str,
    cap: float,
    scale: float,
    ignore_index: int,
    workspace: int,
    filter_eps: float,
    threads: int,
) -> tuple[torch.Tensor, ...]:
    head = CoreHead("row_statistics", hidden, weight, targets, bias, map, cap, _scaled(scale, factor), ignore_index)
    out = empty_statistics(hidden, want, topk)
    addresses = [address(tensor) if want >> i & 1 else 0 for i, tensor in enumerate(out[: len(_head.CORE_STATISTICS)])]
    head.run(_core.row_statistics, *addresses, topk, address(out[-2]), address(out[-1]), torch_thread_count(threads))
    return tuple(out)


def _row_statistics_fake(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    factor: torch.Tensor | None,
    want: int,
    topk: int,
    *options: Any,
) -> tuple[torch.Tensor, ...]:
    check_tensors("row_statistics", hidden, weight, targets, bias, on_cuda=True)
    return tuple(empty_statistics(hidden, want, topk))


_BACKWARD = (
    f"row_statistics_backward({_HEAD_ARGUMENTS}, Tensor? factor, Tensor? lse, Tensor? a, Tensor? b, Tensor? c, Tensor? d, Tensor? index, "
    f"Tensor? value, bool need_hidden, bool need_weight, bool need_bias, bool need_factor, {_HEAD_OPTIONS}) -> "
    "(Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias, Tensor grad_factor)"
)


def empty_gradients(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, need_hidden: bool, need_weight: bool, need_bias: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of shape (0,) where not needed; that of bias in the type of the sums."""
    return (
        hidden.new_empty(hidden.shape if need_hidden else (0,)),
        weight.new_empty(weight.shape if need_weight else (0,)),
        weight.new_empty((weight.shape[0] if need_bias and bias is not None else 0,), dtype=sum_type(hidden.dtype)),
    )


def _row_statistics_backward(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    factor: torch.Tensor | None,
    lse: torch.Tensor | None,
    a: torch.Tensor | None,
    b: torch.Tensor | None,
    c: torch.Tensor | None,
    d: torch.Tensor | None,
    index: torch.Tensor | None,
    value: torch.Tensor | None,
    need_hidden: bool,
    need_weight: bool,
    need_bias: bool,
    need_factor: bool,
    map: str,
    cap: float,
    scale: float,
    ignore_index: int,
    workspace: int,
    filter_eps: float,
    threads: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    head = CoreHead("row_statistics_backward", hidden, weight, targets, bias, map, cap, _scaled(scale, factor), ignore_index)
    out = empty_gradients(hidden, weight, bias, need_hidden or need_factor, need_weight, need_bias or need_factor)
    coefficients = [None if x is None else x.to(torch.float64).contiguous() for x in (lse, a, b, c, d)]
    entries = 0 if index is None else index.shape[1]
    index = None if index is None else index.contiguous()
    value = None if value is None else value.to(torch.float64).contiguous()
    at_lse, at_a, at_b, at_c, at_d = (address(x) for x in coefficients)
    to_hidden, to_weight, to_bias = (address(x) if x.numel() else 0 for x in out)
    head.run(
        _core.backward,
        at_lse,
        at_a,
        at_b,
        at_c,
        at_d,
        entries,
        address(index),
        address(value),
        to_hidden,
        to_weight,
        to_bias,
        workspace,
        filter_eps,
        0,
        torch_thread_count(threads),
    )
    if not need_factor:
        return *out, empty_factor_gradient(hidden, False)
    assert factor is not None
    by_factor = factor_gradient(factor, hidden, out[0], head.bias, out[2])
    return (
        out[0] if need_hidden else out[0].new_empty((0,)),
        out[1],
        out[2] if need_bias else out[2].new_empty((0,)),
        by_factor,
    )


def factor_gradient(
    factor: torch.Tensor, hidden: torch.Tensor, by_hidden: torch.Tensor, bias: torch.Tensor | None, by_bias: torch.Tensor
) -> torch.Tensor:
    """sum dz z / factor over the logits z before their map. As z is linear in hidden and bias, these and their gradients hold that sum."""
    if factor.device.type != "cuda" and float(factor) == 0:  # there the host would wait, and NaN says so
        raise ValueError("row_statistics: scale is 0; expected another number where its gradient is asked for")
    kind = sum_type(hidden.dtype)
    total = _sum_of_products(hidden.to(kind), by_hidden.to(kind))
    if bias is not None:
        total = total + _sum_of_products(bias, by_bias)
    return total / factor.to(torch.float64)


def _sum_of_products(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Where the gradient is 0, x has no part in it: NaN in an ignored row, or the -inf of a class that is masked."""
    return torch.where(gradient == 0, 0, x * gradient).sum(dtype=torch.float64)


def empty_factor_gradient(hidden: torch.Tensor, need_factor: bool) -> torch.Tensor:
    return hidden.new_empty(() if need_factor else (0,), dtype=torch.float64)


def _row_statistics_backward_fake(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    hidden, weight, _, bias = arguments[:4]
    *need, need_factor = arguments[12:16]
    return *empty_gradients(hidden, weight, bias, *need), empty_factor_gradient(hidden, need_factor)


def _keep_for_statistics(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, targets, bias, factor, _, topk, *options = inputs
    found = dict(zip(_OUTPUTS, output, strict=True))
    ctx.mark_non_differentiable(found["argmax"], found["top_indices"])
    ctx.set_materialize_grads(False)
    ctx.options, ctx.topk = options, topk
    ctx.save_for_backward(hidden, weight, targets, bias, factor, *(found[name] for name in ("lse", "expected", "argmax", "top_indices")))


def _backward_of_statistics(ctx: Any, *gradients: torch.Tensor | None) -> tuple[Any, ...]:
    hidden, weight, targets, bias, factor, lse, expected, argmax, top_indices = ctx.saved_tensors
    g = {name: gradient for name, gradient in zip(_OUTPUTS, gradients, strict=True) if gradient is not None and gradient.numel() > 0}
    vocabulary = weight.shape[0]
    a, b = g.get("lse"), g.get("expected")
    if b is not None:  # d expected / dz_j = p_j (1 + z_j - expected)
        a = b * (1 - expected) if a is None else a + b * (1 - expected)
    c = 2 * g["second_moment"] / vocabulary if "second_moment" in g else None
    d = g["mean"] / vocabulary if "mean" in g else None
    single = [
        (indices.reshape(-1, width), g[name].reshape(-1, width))
        for name, indices, width in (("target", targets, 1), ("maximum", argmax, 1), ("top_values", top_indices, ctx.topk))
        if name in g
    ]
    index = torch.cat([indices for indices, _ in single], 1) if single else None
    value = torch.cat([values for _, values in single], 1) if single else None
    need = [ctx.needs_input_grad[i] for i in (0, 1, 3, 4)]
    head = hidden, weight, targets, bias, factor
    grad_hidden, grad_weight, grad_bias, grad_factor = call(
        "row_statistics_backward", *head, None if a is None else lse, a, b, c, d, index, value, *need, *ctx.options
    )
    return (
        grad_hidden if need[0] else None,
        grad_weight if need[1] else None,
        None,
        grad_bias.to(bias.dtype) if need[2] else None,
        grad_factor.to(factor.dtype) if need[3] else None,
        *(None,) * (2 + len(ctx.options)),
    )


register(_BACKWARD, _row_statistics_backward, _row_statistics_backward_fake)
register(_STATISTICS, _row_statistics, _row_statistics_fake, _keep_for_statistics, _backward_of_statistics)


# ---- cross-entropy with its gradients -----------------------------------------------------------------------------------------------------

_CROSS_ENTROPY = (
    f"cross_entropy_and_gradients({_HEAD_ARGUMENTS}, Tensor? row_weight, float label_smoothing, float z_loss, bool mean, bool need_hidden, "
    f"bool need_weight, bool need_bias, {_HEAD_OPTIONS}) -> (Tensor total, Tensor dropped, Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)"
)


def _cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    row_weight: torch.Tensor | None,
    label_smoothing: float,
    z_loss: float,
    mean: bool,
    need_hidden: bool,
    need_weight: bool,
    need_bias: bool,
    map: str,
    cap: float,
    scale: float,
    ignore_index: int,
    workspace: int,
    filter_eps: float,
    threads: int,
) -> tuple[torch.Tensor, ...]:
    head = CoreHead("linear_cross_entropy", hidden, weight, targets, bias, map, cap, scale, ignore_index)
    gradients = empty_gradients(hidden, weight, bias, need_hidden, need_weight, need_bias)
    dropped = _empty_dropped(hidden, filter_eps)
    row_weight = None if row_weight is None else row_weight.to(torch.float64).contiguous()
    to_hidden, to_weight, to_bias = (address(x) if x.numel() else 0 for x in gradients)
    total = head.run(
        _core.cross_entropy,
        address(row_weight),
        label_smoothing,
        z_loss,
        mean,
        to_hidden,
        to_weight,
        to_bias,
        workspace,
        filter_eps,
        address(dropped) if filter_eps > 0 else 0,
        torch_thread_count(threads),
        0,
        0,
    )
    return hidden.new_full((), total, dtype=sum_type(hidden.dtype)), dropped, *gradients


def _empty_dropped(hidden: torch.Tensor, filter_eps: float) -> torch.Tensor:
    return hidden.new_empty((hidden.shape[0] if filter_eps > 0 else 0,), dtype=torch.float64)


def _cross_entropy_fake(*arguments: Any) -> tuple[torch.Tensor, ...]:
    hidden, weight, targets, bias = arguments[:4]
    check_tensors("linear_cross_entropy", hidden, weight, targets, bias, on_cuda=True)
    total = hidden.new_empty((), dtype=sum_type(hidden.dtype))
    return total, _empty_dropped(hidden, arguments[-2]), *empty_gradients(hidden, weight, bias, *arguments[8:11])


_SCALED_GRADIENT = "scaled_gradient(Tensor gradient, Tensor factor, Tensor hidden, Tensor weight, Tensor? bias) -> Tensor"


def _scaled_gradient(
    gradient: torch.Tensor, factor: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """gradient * factor. The other arguments are what it depends on in truth, so that a second derivative is refused and not 0."""
    return gradient * factor


def _scaled_gradient_fake(gradient: torch.Tensor, *others: Any) -> torch.Tensor:
    return torch.empty_like(gradient)


def _keep_gradients(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    hidden, weight, _, bias = inputs[:4]
    _, dropped, *gradients = output
    ctx.mark_non_differentiable(dropped, *gradients)
    ctx.set_materialize_grads(False)
    ctx.arguments = len(inputs)
    ctx.save_for_backward(hidden, weight, bias, *gradients)


def _is_one(factor: torch.Tensor) -> bool:
    """Whether gradients can be handed on as they are; known only where the factor is a number that the host has now and no second derivative is prepared."""
    if torch.compiler.is_compiling() or type(factor) is not torch.Tensor or torch.is_grad_enabled() or factor.is_cuda:
        return False
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    return _get_current_dispatch_mode() is None and float(factor) == 1.0


def _scale_gradients(ctx: Any, total: torch.Tensor | None, *unused: torch.Tensor | None) -> tuple[Any, ...]:
    hidden, weight, bias, *gradients = ctx.saved_tensors
    scaled: list[torch.Tensor | None] = [None, None, None]
    if total is not None:
        one = _is_one(total)
        for i, (gradient, position) in enumerate(zip(gradients, (0, 1, 3), strict=True)):
            if ctx.needs_input_grad[position]:
                scaled[i] = gradient if one else call("scaled_gradient", gradient, total, hidden, weight, bias)
    by_bias = None if scaled[2] is None else scaled[2].to(bias.dtype)
    return scaled[0], scaled[1], None, by_bias, *(None,) * (ctx.arguments - 4)


register(_SCALED_GRADIENT, _scaled_gradient, _scaled_gradient_fake, key=ANY_DEVICE)
register(_CROSS_ENTROPY, _cross_entropy, _cross_entropy_fake, _keep_gradients, _scale_gradients)


# ---- what the public functions call -----------------------------------------------------------------------------------------------------------


def as_autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Tensors in the type that torch.autocast gives the operands of a linear layer."""
    device = "cuda" if tensors[0].device.type == "cuda" else "cpu"
    if not torch.is_autocast_enabled(device):
        return tensors
    kind = torch.get_autocast_dtype(device)
    return tuple(x.to(kind) if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64 else x for x in tensors)


def readable(tensor: torch.Tensor | None) -> bool:
    """Whether there are values to look at: none while a program is compiled, traced or transformed, none on "meta", and none on CUDA, which the
    host would have to wait for."""
    if tensor is None or torch.compiler.is_compiling() or tensor.is_meta or tensor.is_cuda or torch._C._is_tracing():
        return False
    if torch._C._len_torch_dispatch_stack() or type(tensor) not in (torch.Tensor, torch.nn.Parameter):  # fake ones, and proxies of make_fx
        return False
    return torch._C._functorch.peek_interpreter_stack() is None


def _checked_factor(scale: torch.Tensor, device: torch.device) -> torch.Tensor:
    if scale.numel() != 1 or not scale.is_floating_point() or scale.device != device:
        raise ValueError(
            f"row_statistics: scale is a tensor of {_name(scale.dtype)} of shape {tuple(scale.shape)} on {scale.device}; "
            f"expected a floating-point one of one element on {device}, or a number"
        )
    return scale.reshape(())


def torch_statistics(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    *,
    parts: tuple[str, ...],
    topk: int,
    map_and_cap: tuple[str, float],
    scale: float | torch.Tensor,
    ignore_index: int,
    filter_eps: float | str | None,
    workspace: int,
    threads: int,
    kind: torch.dtype | None = None,
    function: str = "row_statistics",
) -> dict[str, Any]:
    """The parts by name, and "topk", in `kind` or what row_statistics says. function: named by errors."""
    hidden, weight = as_autocast(hidden, weight)
    check_tensors(function, hidden, weight, targets, bias, on_cuda=True)
    _head.check_topk(function, topk, weight.shape[0])
    # The gradient of the maximum goes to its index.
    want = _bits((*parts, "argmax") if "maximum" in parts else parts)
    bound = _head.filter_bound(function, filter_eps, _name(hidden.dtype))
    factor, scale = (_checked_factor(scale, hidden.device), 1.0) if isinstance(scale, torch.Tensor) else (None, scale)
    options = *map_and_cap, scale, ignore_index, workspace, bound, threads
    found = call_as(function, "row_statistics", call, "row_statistics", hidden, weight, targets, bias, factor, want, topk, *options)
    kind = sum_type(hidden.dtype) if kind is None else kind
    by_name = {name: x if x.dtype == torch.int64 else x.to(kind) for name, x in zip(_OUTPUTS, found, strict=True)}
    if "target" in parts and "lse" in parts:
        by_name["collapsed"] = _head.collapsed(found[0].detach(), found[1].detach(), _name(hidden.dtype))
    by_name["topk"] = TopK(by_name.pop("top_values"), by_name.pop("top_indices"))
    return by_name


if HAS_CUDA:
    from . import _cuda  # noqa: F401
