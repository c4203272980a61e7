"""linear_cross_entropy of torch tensors: in one go with the gradients that will be asked for where its upstream is one number, else from the
statistics. Both take the row's loss from statistics in float64 and round it once."""

from __future__ import annotations

from typing import Any

import torch

from . import _head
from ._cross_entropy import _NAME, _check_class_weight, _shifted
from ._head import call_as
from ._operators import call
from ._torch import _name, as_autocast, check_tensors, readable, sum_type, torch_statistics

__all__ = ["LinearCrossEntropy", "torch_linear_cross_entropy"]


def torch_linear_cross_entropy(
    e: torch.Tensor,
    c: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    ignore_index: int,
    softcap: float | None,
    reduction: str,
    shift: int,
    label_smoothing: float,
    z_loss: float,
    class_weight: torch.Tensor | None,
    token_weight: torch.Tensor | None,
    return_lse: bool,
    filter_eps: float | str | None,
    return_dropped: bool,
    workspace: int,
    threads: int,
    process_group: Any = None,
) -> Any:
    """The loss, (loss, lse), or (loss, dropped)."""
    rows, labels, weights, shape = _shifted(e, targets, token_weight, shift)
    rows, c = as_autocast(rows, c)
    sizes = []
    if process_group is not None:
        from ._vocabulary_parallel import parallel_statistics, shard_sizes

        sizes = shard_sizes(_NAME, c, process_group)
    check_tensors(_NAME, rows, c, labels, bias, ("e", "c"), on_cuda=True)
    if process_group is None:
        _check_class_weight(_NAME, class_weight, c.shape[0], readable(class_weight))
    weighted_smoothing = class_weight is not None and label_smoothing > 0
    if weighted_smoothing and softcap is not None:
        raise ValueError(f"{_NAME}: class_weight with softcap and label_smoothing; expected at most two of them")
    if weighted_smoothing and process_group is not None:
        raise ValueError(f"{_NAME}: class_weight with process_group and label_smoothing; expected at most two of them")

    differentiated = torch.is_grad_enabled()
    constant_weights = not (differentiated and any(x is not None and x.requires_grad for x in (class_weight, token_weight)))
    # Gradients of float16 are rounded after the upstream gradient: a loss scale could not bring back what underflowed before it.
    at_once = reduction != "none" and not return_lse and not weighted_smoothing and rows.dtype != torch.float16
    # On CUDA the logits are computed again in the backward, so gradients need not lie there before it, but for what they tell of themselves.
    if process_group is None and constant_weights and at_once and (return_dropped or rows.device.type != "cuda"):
        bound = _head.filter_bound(_NAME, filter_eps, _name(rows.dtype))
        need = [differentiated and x is not None and x.requires_grad for x in (rows, c, bias)]
        if return_dropped and not any(need):
            raise ValueError(f"{_NAME}: return_dropped where no gradient is asked for; expected e, c or bias to require one")
        row_weight = None if class_weight is None and weights is None else _row_weights(labels, ignore_index, class_weight, weights)[2]
        total, dropped, *_ = call_as(
            _NAME, "cross_entropy", call, "cross_entropy_and_gradients", rows, c, labels, bias, row_weight, label_smoothing, z_loss,
            reduction == "mean", *need, *_head.map_name(_NAME, softcap, None), 1.0, ignore_index, workspace,
            bound, threads,
        )  # fmt: skip
        if not return_dropped:
            return total
        return total, dropped.reshape(shape) if bound > 0 else torch.zeros(shape, dtype=torch.float64, device=rows.device)

    if return_dropped:
        raise ValueError(
            f"{_NAME}: return_dropped where gradients are not computed with the loss; expected "
            "reduction 'mean' or 'sum' without return_lse, process_group, weights that require a gradient, and float16"
        )
    counts, factor, row_weight = _row_weights(labels, ignore_index, class_weight, weights)
    smoothed = label_smoothing > 0 and not weighted_smoothing
    common: dict[str, Any] = {"ignore_index": ignore_index, "filter_eps": filter_eps, "workspace": workspace}
    if process_group is None:
        found = torch_statistics(
            rows, c, labels, bias, parts=("target", "lse", "mean") if smoothed else ("target", "lse"), topk=0,
            map_and_cap=_head.map_name(_NAME, softcap, None), scale=1.0, threads=threads, kind=torch.float64, function=_NAME, **common,
        )  # fmt: skip
        target, lse, mean = found["target"], found["lse"], found["mean"] if smoothed else None
    else:
        target, lse, mean, vocabulary = parallel_statistics(
            _NAME, rows, c, labels, bias, process_group, sizes, with_mean=smoothed, softcap=softcap, threads=threads, **common
        )
        _check_class_weight(_NAME, class_weight, vocabulary, readable(class_weight))
    losses = (1 - label_smoothing) * (lse - target) + z_loss * lse**2
    if mean is not None:
        losses = losses + label_smoothing * (lse - mean)
    losses = losses * row_weight
    if weighted_smoothing:
        assert class_weight is not None
        kind = sum_type(rows.dtype)
        average = rows.to(kind) @ (class_weight.to(kind) @ c.to(kind))
        if bias is not None:
            average = average + (bias.to(kind) @ class_weight.to(kind))
        losses = losses + factor * label_smoothing / c.shape[0] * (class_weight.to(torch.float64).sum() * lse - average)
    losses = torch.where(counts, losses, 0.0)
    kind = sum_type(rows.dtype)
    if reduction == "none":
        loss = losses.reshape(shape).to(kind)
    else:
        total = losses.sum()
        loss = (total / row_weight.sum() if reduction == "mean" else total).to(kind)
    return (loss, lse.reshape(shape).to(kind)) if return_lse else loss


def _row_weights(
    labels: torch.Tensor, ignore_index: int, class_weight: torch.Tensor | None, weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which rows count, their token weights, and these times the weights of their classes; 0 in rows that do not count."""
    counts = labels != ignore_index
    factor = counts.to(torch.float64) if weights is None else torch.where(counts, weights.to(torch.float64), 0.0)
    if class_weight is None:
        return counts, factor, factor
    known = counts & (labels >= 0) & (labels < len(class_weight))  # the statistics say what others are
    return counts, factor, factor * class_weight.to(torch.float64)[torch.where(known, labels, 0)]


class LinearCrossEntropy(torch.nn.Module):
    """linear_cross_entropy as a module, which holds the options of `linear_cross_entropy`; forward takes (e, c, targets, bias=None)."""

    def __init__(
        self,
        ignore_index: int = -100,
        softcap: float | None = None,
        reduction: str = "mean",
        shift: bool | int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.options = {"ignore_index": ignore_index, "softcap": softcap, "reduction": reduction, "shift": shift, **options}

    def forward(self, e: torch.Tensor, c: torch.Tensor, targets: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        """The loss; arguments and what is raised as of `linear_cross_entropy`."""
        from ._cross_entropy import linear_cross_entropy

        return linear_cross_entropy(e, c, targets, bias, **self.options)

    def extra_repr(self) -> str:
        """The options, for repr()."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())
