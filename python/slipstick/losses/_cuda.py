"""The operators of _torch.py for CUDA tensors: tiles of logits by torch's matmul, their rows by slipstick._cuda. Results and workspace are torch's;
kernels join torch's current stream of the tensors' device, and the host waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from slipstick._errors import UnsupportedError
from slipstick._extension import cuda_extension

from . import _head, _tiles
from ._operators import add_kernel
from ._torch import address, check_tensors, empty_factor_gradient, empty_gradients, empty_statistics, factor_gradient, sum_type
from ._two_head_tiles import KINDS

if (extension := cuda_extension()) is None:
    raise ImportError("slipstick.losses: slipstick._cuda is not installed")
_kernels = extension.losses
assert _kernels.SEGMENT_COLUMNS == _tiles.SEGMENT_COLUMNS

_FORMATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
_MAPS = {"": 0, "softcap": 1, "stablemax": 2}


def _place(x: torch.Tensor) -> tuple[int, int]:
    return x.device.index, torch.cuda.current_stream(x.device).cuda_stream


def _fields(tile: _tiles.Tile) -> tuple[Any, ...]:
    head, x = tile.head, tile.products
    return (
        _FORMATS[x.dtype],
        x.data_ptr(),
        *x.shape,
        x.stride(0),
        tile.columns.start,
        head.weight.shape[0],
        address(head.bias),
        head.scale,
        address(head.factor),
        _MAPS[head.map],
        head.cap,
        address(tile.targets),
        head.ignore_index,
    )


def _workspace(x: torch.Tensor, size: Callable[[int, int, int], int]) -> torch.Tensor:
    """What a kernel needs for a tile, beyond it."""
    return torch.empty(size(_FORMATS[x.dtype], *x.shape), dtype=torch.uint8, device=x.device)


class CudaKernels:
    """TwoHeadKernels of _two_head_tiles.py. Each launches kernels and returns."""

    def add_statistics(self, tile: _tiles.Tile, first: bool, everything: bool, sums: torch.Tensor, argmax: torch.Tensor) -> None:
        x = tile.products
        workspace = _workspace(x, _kernels.statistics_bytes)
        _kernels.add_statistics(
            _place(x), _fields(tile), first, everything, workspace.data_ptr(), sums.data_ptr(), sums.stride(0), argmax.data_ptr()
        )

    def add_tops(self, tile: _tiles.Tile, first: bool, values: torch.Tensor, indices: torch.Tensor) -> None:
        _kernels.add_tops(_place(tile.products), _fields(tile), first, values.shape[1], values.data_ptr(), indices.data_ptr())

    def form_gradient(
        self, tile: _tiles.Tile, coefficients: _tiles.Coefficients, filter_eps: float, dropped: torch.Tensor | None, out: torch.Tensor
    ) -> None:
        of, x = coefficients, tile.products
        rows = (address(x) for x in (of.lse, of.a, of.b, of.c, of.d))
        entries = 0 if of.index is None else of.index.shape[1]
        single = entries, address(of.index), address(of.value)
        to = _FORMATS[out.dtype], out.data_ptr(), out.stride(0)
        workspace = None if dropped is None else _workspace(x, _kernels.filter_bytes)
        of_filter = filter_eps, address(dropped), address(workspace)
        _kernels.form_gradient(_place(x), _fields(tile), *rows, *single, *of_filter, *to)

    def add_divergence(
        self,
        one: _tiles.Tile,
        other: _tiles.Tile,
        kind: str,
        mixture: float,
        lse: torch.Tensor | None,
        second_lse: torch.Tensor | None,
        first: bool,
        sums: torch.Tensor,
    ) -> None:
        x = one.products
        workspace = _workspace(x, _kernels.divergence_bytes)
        of_kind = KINDS[kind], mixture, address(lse), address(second_lse), first
        _kernels.add_divergence(_place(x), _fields(one), _fields(other), *of_kind, workspace.data_ptr(), sums.data_ptr(), sums.stride(0))

    def form_divergence_gradient(
        self, one: _tiles.Tile, other: _tiles.Tile, kind: str, mixture: float, rows: tuple[torch.Tensor | None, ...]
    ) -> None:
        to = one.products.data_ptr(), other.products.data_ptr()
        at_rows = tuple(map(address, rows))
        _kernels.form_divergence_gradient(_place(one.products), _fields(one), _fields(other), KINDS[kind], mixture, at_rows, *to)

    def combine(self, one: _tiles.Tile, other: _tiles.Tile | None, coefficient: float, least: torch.Tensor | None) -> None:
        x = one.products
        _kernels.combine(_place(x), _fields(one), None if other is None else _fields(other), coefficient, address(least), x.data_ptr())

    def form_combined_gradient(
        self,
        one: _tiles.Tile,
        other: _tiles.Tile,
        coefficient: float,
        least: torch.Tensor | None,
        lse: torch.Tensor,
        by_lse: torch.Tensor | None,
        by_target: torch.Tensor | None,
    ) -> None:
        rows = map(address, (least, lse, by_lse, by_target))
        to = one.products.data_ptr(), other.products.data_ptr()
        _kernels.form_combined_gradient(_place(one.products), _fields(one), _fields(other), coefficient, *rows, *to)


def tiled_head(
    function: str,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    bias: torch.Tensor | None,
    factor: torch.Tensor | None,
    map: str,
    cap: float,
    scale: float,
    ignore_index: int,
    workspace: int,
    names: tuple[str, str] = ("hidden", "weight"),
) -> _tiles.TiledHead:
    check_tensors(function, hidden, weight, targets, bias, names, on_cuda=True)
    if hidden.dtype.itemsize == 2 and not hasattr(torch.ops.aten.mm, "dtype"):
        raise UnsupportedError(
            f"{function}: {names[0]} has dtype {str(hidden.dtype).removeprefix('torch.')} on {hidden.device} and torch is {torch.__version__}; expected "
            "torch 2.8 or later, whose products of 16 bits have a float32 result, or float32"
        )
    return _tiles.TiledHead(
        hidden if hidden.stride(1) == 1 else hidden.contiguous(),
        weight if weight.stride(1) == 1 else weight.contiguous(),
        None if targets is None else targets.contiguous(),
        None if bias is None else bias.to(sum_type(hidden.dtype)).contiguous(),
        None if factor is None else factor.to(torch.float64),
        map,
        cap,
        scale,
        ignore_index,
        workspace,
    )


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
    head = tiled_head("row_statistics", hidden, weight, targets, bias, factor, map, cap, scale, ignore_index, workspace)
    out = empty_statistics(hidden, 0, 0)
    names = [name for i, name in enumerate(_head.CORE_STATISTICS) if want >> i & 1]
    with _tiles.without_autocast(hidden):
        found = _tiles.statistics(head, bool({"mean", "second_moment", "expected"} & set(names)), CudaKernels(), topk)
    out[-2:] = found["top_values"], found["top_indices"]
    for i, name in enumerate(_head.CORE_STATISTICS):
        if name in names:
            out[i] = found[name].clone() if name == "target" else found[name]  # the sums that it is a part of may go
    return tuple(out)


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
    options = map, cap, scale, ignore_index, workspace
    head = tiled_head("row_statistics_backward", hidden, weight, targets, bias, factor, *options)
    out = empty_gradients(hidden, weight, bias, need_hidden or need_factor, need_weight, need_bias or need_factor)
    lse, a, b, c, d, value = (None if x is None else x.to(torch.float64).contiguous() for x in (lse, a, b, c, d, value))
    index = None if index is None else index.contiguous()
    by_hidden, by_weight, by_bias = (x if x.numel() else None for x in out)
    with _tiles.without_autocast(hidden):
        of = _tiles.Coefficients(lse, a, b, c, d, index, value)
        _tiles.gradients(head, of, by_hidden, by_weight, by_bias, CudaKernels(), filter_eps)
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


def _cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
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
    """As the core's cross_entropy, by the same two passes as a loss and its backward."""
    head = tiled_head("linear_cross_entropy", hidden, weight, targets, bias, None, map, cap, scale, ignore_index, workspace)
    out = empty_gradients(hidden, weight, bias, need_hidden, need_weight, need_bias)
    by_hidden, by_weight, by_bias = (x if x.numel() else None for x in out)
    counts = targets != ignore_index
    w = counts.to(torch.float64) if row_weight is None else torch.where(counts, row_weight.to(torch.float64), 0)
    divisor = w.sum() if mean else w.new_ones(())
    vocabulary = weight.shape[0]
    with _tiles.without_autocast(hidden):
        found = _tiles.statistics(head, label_smoothing > 0, CudaKernels())
        lse, target = found["lse"], found["target"]
        losses = lse - (1 - label_smoothing) * target + z_loss * lse**2
        if label_smoothing > 0:
            losses = losses - label_smoothing * found["mean"]
        total = torch.where(counts, w * losses, 0).sum() / divisor  # NaN of nothing
        w = w / divisor
        a = w * (1 + 2 * z_loss * lse)
        d = -w * label_smoothing / vocabulary if label_smoothing > 0 else None
        of = _tiles.Coefficients(lse, a, None, None, d, targets.contiguous()[:, None], -(w * (1 - label_smoothing))[:, None])
        dropped = _tiles.gradients(head, of, by_hidden, by_weight, by_bias, CudaKernels(), filter_eps)
    if dropped is None:
        dropped = torch.zeros(hidden.shape[0] if filter_eps > 0 else 0, dtype=torch.float64, device=hidden.device)
    else:
        dropped = torch.where((a == 0) | ~counts, 0, dropped / a)
    return total.to(sum_type(hidden.dtype)), dropped, *out


add_kernel("row_statistics", _row_statistics, "CUDA")
add_kernel("row_statistics_backward", _row_statistics_backward, "CUDA")
add_kernel("cross_entropy_and_gradients", _cross_entropy, "CUDA")
