"""Statistics of a head whose classes lie on several ranks of a torch.distributed group: each streams its own, a few numbers a row are summed.

Every rank computes the same loss and calls backward on it; the gradient by its classes stays on the rank, that by hidden is summed over them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed

from . import _head
from ._torch import torch_statistics

__all__ = ["parallel_statistics", "shard_sizes"]

_IGNORED = -1  # no number of a class of any rank, as the caller's ignore_index may be


class _SumOverRanks(torch.autograd.Function):
    """The sum; each rank's part has the gradient of the sum, which is the same everywhere."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, group: Any) -> torch.Tensor:
        total = part.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0], None


class _SumOfGradients(torch.autograd.Function):
    """The tensor itself; its gradient is the sum of those of the ranks."""

    @staticmethod
    def forward(ctx: Any, shared: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        return shared.view_as(shared)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total, group=ctx.group)
        return total, None


def shard_sizes(function: str, weight: torch.Tensor, group: Any) -> list[int]:
    """The number of classes of every rank. Raises on all ranks where one has none: one that raised alone would leave the others waiting."""
    sizes = [0] * distributed.get_world_size(group)
    distributed.all_gather_object(sizes, weight.shape[0], group=group)
    if 0 in sizes:
        raise ValueError(f"{function}: c has 0 rows on rank {sizes.index(0)} of process_group; expected at least one class on each")
    return sizes


def parallel_statistics(
    function: str,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    group: Any,
    sizes: list[int],
    *,
    ignore_index: int,
    with_mean: bool,
    softcap: float | None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, int]:
    """Logits of the targets, log-sum-exps and means over the classes of all ranks, in float64, and the number of classes.

    Args:
        weight: (classes of this rank, width); the classes are numbered in the order of the ranks. bias likewise.
        targets: (rows,) int64, numbers among all classes.
        sizes: see shard_sizes.
        options: of torch_statistics.
    """
    rank = distributed.get_rank(group)
    first, vocabulary = sum(sizes[:rank]), sum(sizes)
    _head.check_target_range(function, targets, vocabulary, ignore_index)
    counts = targets != ignore_index
    here = counts & (targets >= first) & (targets < first + weight.shape[0])
    # A row whose target is on another rank still needs its log-sum-exp: it gets some class of ours, whose logit is not used.
    local = torch.where(here, targets - first, torch.where(counts, 0, _IGNORED))
    want = ("target", "lse", "mean") if with_mean else ("target", "lse")
    summed = _SumOfGradients.apply(hidden, group)  # type: ignore[no-untyped-call]
    found = torch_statistics(
        summed, weight, local, bias, parts=want, topk=0, map_and_cap=_head.map_name(function, softcap, None), scale=1.0, ignore_index=_IGNORED,
        kind=torch.float64, function=function, **options,
    )  # fmt: skip
    lse = found["lse"]
    largest = lse.detach().clone()
    distributed.all_reduce(largest, distributed.ReduceOp.MAX, group=group)
    largest = torch.where(largest.isinf(), 0.0, largest)
    parts = [torch.exp(lse - largest), torch.where(here, found["target"], 0.0)]
    if with_mean:
        parts.append(found["mean"] * weight.shape[0] / vocabulary)
    sums = _SumOverRanks.apply(torch.stack(parts), group)  # type: ignore[no-untyped-call]
    lse = torch.where(counts, largest + torch.log(sums[0]), 0.0)
    return sums[1], lse, sums[2] if with_mean else None, vocabulary
