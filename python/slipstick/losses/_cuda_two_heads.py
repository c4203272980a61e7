"""The operators of _two_heads.py for CUDA tensors: as _cuda.py, over tiles of both heads."""

from __future__ import annotations

from typing import Any

import torch

from . import _tiles, _two_head_tiles
from ._cuda import CudaKernels, tiled_head
from ._operators import add_kernel
from ._torch import TENSORS_OF_TWO_HEADS, empty_gradients, numbers_a_row
from ._two_head_tiles import Gradients, Heads


def _heads_of(function: str, arguments: tuple[Any, ...]) -> Heads:
    hidden, weight, bias, second_hidden, second_weight, second_bias, targets, map, cap, scale, ignore_index, workspace, _ = arguments
    options = None, map, cap, scale, ignore_index, workspace
    return (
        tiled_head(function, hidden, weight, targets, bias, *options),
        tiled_head(function, second_hidden, second_weight, targets, second_bias, *options, ("second_hidden", "second_weight")),
    )


def _empty(arguments: tuple[Any, ...], need: list[bool]) -> tuple[tuple[torch.Tensor, ...], tuple[Gradients, Gradients]]:
    """Gradients, (0,) where not needed, and those of each head, None where not."""
    out = (*empty_gradients(*arguments[:3], *need[:3]), *empty_gradients(*arguments[3:TENSORS_OF_TWO_HEADS], *need[3:]))
    hidden, weight, bias, *of_second = (x if x.numel() else None for x in out)
    second_hidden, second_weight, second_bias = of_second
    return out, ((hidden, weight, bias), (second_hidden, second_weight, second_bias))


def _divergence(*arguments: Any) -> tuple[torch.Tensor, ...]:
    *arguments, kind, mixture = arguments  # type: ignore[assignment]
    heads = _heads_of("two_head_divergence", arguments)
    with _tiles.without_autocast(arguments[0]):
        return _two_head_tiles.divergence(heads, kind, mixture, CudaKernels())


def _divergence_backward(*arguments: Any) -> tuple[torch.Tensor, ...]:
    upstream, values, (*arguments, kind, mixture, need) = arguments[:4], arguments[4:8], arguments[8:]  # type: ignore[assignment]
    heads = _heads_of("two_head_divergence_backward", arguments)
    out, of_heads = _empty(arguments, need)
    with _tiles.without_autocast(arguments[0]):
        _two_head_tiles.divergence_gradients(heads, kind, mixture, values, numbers_a_row(*upstream), of_heads, CudaKernels())
    return out


def _combined(*arguments: Any) -> tuple[torch.Tensor, ...]:
    *arguments, least, coefficient = arguments  # type: ignore[assignment]
    heads = _heads_of("combined_statistics", arguments)
    (least,) = numbers_a_row(least)
    with _tiles.without_autocast(arguments[0]):
        return _two_head_tiles.combined_statistics(heads, coefficient, least, CudaKernels())


def _combined_backward(by_target: Any, by_lse: Any, lse: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    *arguments, least, coefficient, need = arguments  # type: ignore[assignment]
    heads = _heads_of("combined_statistics_backward", arguments)
    out, of_heads = _empty(arguments, need)
    by_target = None if arguments[TENSORS_OF_TWO_HEADS] is None else by_target
    least, by_lse, by_target = numbers_a_row(least, by_lse, by_target)
    with _tiles.without_autocast(arguments[0]):
        _two_head_tiles.combined_gradients(heads, coefficient, least, lse, by_lse, by_target, of_heads, CudaKernels())
    return out


def _kth_largest(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor | None,
    map: str,
    cap: float,
    scale: float,
    ignore_index: int,
    workspace: int,
    threads: int,
    k: int,
) -> tuple[torch.Tensor, ...]:
    head = tiled_head("kth_largest_logit", hidden, weight, targets, bias, None, map, cap, scale, ignore_index, workspace)
    with _tiles.without_autocast(hidden):
        return _two_head_tiles.kth_largest(head, k, CudaKernels())


add_kernel("two_head_divergence", _divergence, "CUDA")
add_kernel("two_head_divergence_backward", _divergence_backward, "CUDA")
add_kernel("combined_statistics", _combined, "CUDA")
add_kernel("combined_statistics_backward", _combined_backward, "CUDA")
add_kernel("kth_largest_logit", _kth_largest, "CUDA")
