"""torch operators over two heads of the same rows and classes: divergences of their softmaxes, and combinations of their logits.

The core streams both weights tile by tile, see slipstick/losses.h; kernels for CUDA are in _cuda_two_heads.py. Each operator's backward is one of its own, which has no derivative.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from slipstick._arguments import int64, torch_thread_count
from slipstick._core import losses as _core

from . import _head
from ._labels import check_labels
from ._operators import call, register
from ._rows import check_reduction, reduce_losses
from ._torch import HAS_CUDA, TENSORS_OF_TWO_HEADS, CoreHead, address, check_tensors, empty_gradients, numbers_a_row, sum_type
from ._two_head_losses import Head, check_map, check_two_heads, same_precision
from ._two_head_statistics import COMBINED, DIVERGENCES, NAMES, kept_classes

_HEADS = (
    "Tensor hidden, Tensor weight, Tensor? bias, Tensor second_hidden, Tensor second_weight, Tensor? second_bias, Tensor? targets, "
    "str map, float cap, float scale, int ignore_index, int workspace, int threads"
)
_HEAD_ARGUMENTS = 13
_GRADIENTS = (
    "(Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias, Tensor grad_second_hidden, Tensor grad_second_weight, "
    "Tensor grad_second_bias)"
)


class TwoHeads:
    """Two heads over the same rows and classes, checked, in flat rows, and in types that the core takes."""

    def __init__(
        self,
        name: str,
        first: Head,
        second: Head,
        names: tuple[str, str],
        *,
        targets: torch.Tensor | None,
        ignore_index: int,
        reduction: str = "none",
        softcap: float | None,
        scale: float,
        workspace: int | None,
        temperature: float = 1.0,
        threads: int = 0,
    ) -> None:
        """names: of the second head's hidden and weight."""
        check_reduction(name, reduction)
        ignore_index = int64(name, "ignore_index", ignore_index)
        first, second, targets = check_two_heads(name, first, second, names, targets)
        for argument, tensor in ((names[0], second.hidden), ("targets", targets)):
            if tensor is not None and tensor.device != first.hidden.device:
                raise ValueError(f"{name}: {argument} is on {tensor.device}; expected {first.hidden.device}, as hidden is there")
        cap, factor = check_map(name, softcap, scale)
        self.shape = first.hidden.shape[:-1]
        self.classes = first.weight.shape[0]
        self.reduction = reduction
        if targets is None:
            self.counts = None
        elif targets.is_cuda:  # the host would have to wait; the statistics say what is wrong
            self.counts = targets != ignore_index
        else:
            self.counts = check_labels(name, targets, self.classes, ignore_index)
        heads = same_precision(first, second)
        for head, (hidden_name, weight_name) in zip(heads, (("hidden", "weight"), names), strict=True):
            check_tensors(name, head.hidden, head.weight, None, head.bias, (hidden_name, weight_name), on_cuda=True)
        self.dtype = sum_type(heads[0].hidden.dtype)
        self.arguments = (
            *heads[0],
            *heads[1],
            None if targets is None else targets.reshape(-1),
            "" if softcap is None else "softcap",
            cap / temperature,
            factor / temperature,
            ignore_index,
            _head.workspace_bytes(name, workspace, heads[0].hidden),
            threads,
        )

    def divergence(self, kind: str, mixture: float) -> tuple[torch.Tensor, ...]:
        """What the core computes of that kind, a number a row each, float64."""
        found: tuple[torch.Tensor, ...] = call("two_head_divergence", *self.arguments, kind, mixture)
        return found

    def combined(self, coefficient: float, threshold: float | None, kept_share: float) -> tuple[torch.Tensor, ...]:
        """Logit of the target and log-sum-exp of the combined logits, float64."""
        least = None if threshold is None else self._likely_from(threshold, kept_share)
        found: tuple[torch.Tensor, ...] = call("combined_statistics", *self.arguments, least, coefficient)
        return found

    def _likely_from(self, threshold: float, kept_share: float) -> torch.Tensor:
        """The least logit of a likely class of the first head, see logit_difference_cross_entropy: a number a row, without gradient."""
        hidden, weight, bias, *_ = (x.detach() if isinstance(x, torch.Tensor) else x for x in self.arguments)
        kept = kept_classes(self.classes, kept_share)
        maximum, kth = call("kth_largest_logit", hidden, weight, bias, *self.arguments[TENSORS_OF_TWO_HEADS:], kept)
        return torch.minimum(maximum + math.log(threshold), kth)

    def reduce(self, losses: torch.Tensor) -> torch.Tensor:
        return reduce_losses(losses.to(self.dtype).reshape(self.shape), self.counts, self.reduction)


def torch_two_heads(
    name: str,
    first: tuple[Any, Any, Any],
    second: tuple[Any, Any, Any],
    targets: torch.Tensor | None,
    *,
    kinds: list[str],
    mixture: float,
    combined: bool,
    coefficient: float,
    threshold: float | None,
    kept_share: float,
    **options: Any,
) -> dict[str, torch.Tensor]:
    """What two_head_statistics is made of, by name."""
    heads = TwoHeads(name, Head(*first), Head(*second), NAMES, targets=targets, **options)
    found: dict[str, torch.Tensor] = {}
    for kind in kinds:
        found |= zip(DIVERGENCES[kind], heads.divergence(kind, mixture))
    if combined:
        found |= zip(COMBINED, heads.combined(coefficient, threshold, kept_share), strict=True)
    return {name: x.to(heads.dtype).reshape(heads.shape) for name, x in found.items()}


class _TwoCoreHeads:
    """Tensors as the core takes them, kept alive beside its view of them, and those of the gradients."""

    def __init__(self, function: str, arguments: tuple[Any, ...]) -> None:
        *self.tensors, targets, map, cap, scale, ignore_index, self.workspace, threads = arguments
        hidden, weight, bias, second_hidden, second_weight, second_bias = self.tensors
        shared = map, cap, scale, ignore_index
        self._heads = [
            CoreHead(function, hidden, weight, targets, bias, *shared),
            CoreHead(function, second_hidden, second_weight, targets, second_bias, *shared),
        ]
        self._heads[0].check_targets()
        self.core = tuple(head.core for head in self._heads)
        self.threads = torch_thread_count(threads)
        self.rows = hidden.shape[0]

    def gradients(self, need: list[bool]) -> tuple[tuple[torch.Tensor, ...], list[tuple[int, int, int]]]:
        """Tensors of gradients, and their addresses for each head."""
        out = _empty_gradients(self.tensors, need)
        hidden, weight, bias, *of_second = (address(x) if x.numel() else 0 for x in out)
        second_hidden, second_weight, second_bias = of_second
        return out, [(hidden, weight, bias), (second_hidden, second_weight, second_bias)]


def _empty_gradients(tensors: list[Any], need: list[bool]) -> tuple[torch.Tensor, ...]:
    return (
        *empty_gradients(*tensors[:3], *need[:3]),
        *empty_gradients(*tensors[3:], *need[3:]),
    )


def _empty_rows(hidden: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(hidden.new_empty((hidden.shape[0],), dtype=torch.float64) for _ in range(count))


def _check_fake(function: str, arguments: tuple[Any, ...]) -> None:
    hidden, weight, bias, second_hidden, second_weight, second_bias, targets = arguments[: TENSORS_OF_TWO_HEADS + 1]
    check_tensors(function, hidden, weight, targets, bias, on_cuda=True)
    check_tensors(function, second_hidden, second_weight, targets, second_bias, ("second_hidden", "second_weight"), on_cuda=True)


def _needs(ctx: Any) -> list[bool]:
    return list(ctx.needs_input_grad[:TENSORS_OF_TWO_HEADS])


def _wanted(gradients: tuple[torch.Tensor, ...], need: list[bool], tensors: tuple[Any, ...]) -> tuple[torch.Tensor | None, ...]:
    return tuple(x.to(like.dtype) if wanted else None for x, wanted, like in zip(gradients, need, tensors))


# ---- divergences --------------------------------------------------------------------------------------------------------------------------

_DIVERGENCE = f"two_head_divergence({_HEADS}, str kind, float mixture) -> (Tensor forward, Tensor reverse, Tensor lse, Tensor second_lse)"
_DIVERGENCE_BACKWARD = (
    "two_head_divergence_backward(Tensor? by_forward, Tensor? by_reverse, Tensor? by_lse, Tensor? by_second_lse, Tensor forward, "
    f"Tensor reverse, Tensor lse, Tensor second_lse, {_HEADS}, str kind, float mixture, bool[] need) -> {_GRADIENTS}"
)
_VALUES = 4


def _divergence(*arguments: Any) -> tuple[torch.Tensor, ...]:
    *arguments, kind, mixture = arguments  # type: ignore[assignment]
    heads = _TwoCoreHeads("two_head_divergence", tuple(arguments))
    out = _empty_rows(heads.tensors[0], _VALUES)
    one, other = heads.core
    forward, reverse, lse, second_lse = map(address, out)
    _core.divergence(one, other, kind, mixture, forward, reverse, lse, second_lse, heads.threads)
    return out


def _divergence_fake(*arguments: Any) -> tuple[torch.Tensor, ...]:
    _check_fake("two_head_divergence", arguments)
    return _empty_rows(arguments[0], _VALUES)


def _divergence_backward(*arguments: Any) -> tuple[torch.Tensor, ...]:
    upstream, values, (*arguments, kind, mixture, need) = arguments[:_VALUES], arguments[_VALUES : 2 * _VALUES], arguments[2 * _VALUES :]  # type: ignore[assignment]
    heads = _TwoCoreHeads("two_head_divergence_backward", tuple(arguments))
    out, (first, second) = heads.gradients(need)
    upstream, values = numbers_a_row(*upstream), numbers_a_row(*values)
    by_forward, by_reverse, by_lse, by_second_lse = map(address, upstream)
    forward, reverse, lse, second_lse = map(address, values)
    by = (by_forward, by_reverse, by_lse, by_second_lse)
    one, other = heads.core
    _core.divergence_backward(
        one, other, kind, mixture, forward, reverse, lse, second_lse, by, first, second, heads.workspace, heads.threads
    )
    return out


def _divergence_backward_fake(*arguments: Any) -> tuple[torch.Tensor, ...]:
    return _empty_gradients(list(arguments[2 * _VALUES : 2 * _VALUES + TENSORS_OF_TWO_HEADS]), arguments[-1])


def _keep_divergence(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    ctx.options, ctx.kind = inputs[TENSORS_OF_TWO_HEADS + 1 : _HEAD_ARGUMENTS], inputs[_HEAD_ARGUMENTS:]
    if ctx.kind[0] != "kl":
        ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[: TENSORS_OF_TWO_HEADS + 1], *output)


def _derivative_of_divergence(ctx: Any, *upstream: torch.Tensor | None) -> tuple[Any, ...]:
    heads, values, need = ctx.saved_tensors[: TENSORS_OF_TWO_HEADS + 1], ctx.saved_tensors[TENSORS_OF_TWO_HEADS + 1 :], _needs(ctx)
    gradients = call("two_head_divergence_backward", *upstream, *values, *heads, *ctx.options, *ctx.kind, need)
    return *_wanted(gradients, need, heads), *(None,) * (1 + len(ctx.options) + len(ctx.kind))


register(_DIVERGENCE_BACKWARD, _divergence_backward, _divergence_backward_fake)
register(_DIVERGENCE, _divergence, _divergence_fake, _keep_divergence, _derivative_of_divergence)


# ---- combinations -------------------------------------------------------------------------------------------------------------------------

_COMBINED = f"combined_statistics({_HEADS}, Tensor? least, float coefficient) -> (Tensor target, Tensor lse)"
_COMBINED_BACKWARD = (
    f"combined_statistics_backward(Tensor? by_target, Tensor? by_lse, Tensor lse, {_HEADS}, Tensor? least, float coefficient, bool[] need) "
    f"-> {_GRADIENTS}"
)


def _combined(*arguments: Any) -> tuple[torch.Tensor, ...]:
    *arguments, least, coefficient = arguments  # type: ignore[assignment]
    heads = _TwoCoreHeads("combined_statistics", tuple(arguments))
    target, lse = _empty_rows(heads.tensors[0], 2)
    (least,) = numbers_a_row(least)
    has_targets = arguments[TENSORS_OF_TWO_HEADS] is not None
    if not has_targets:
        target.zero_()
    one, other = heads.core
    _core.combined_statistics(one, other, coefficient, address(least), address(target) if has_targets else 0, address(lse), heads.threads)
    return target, lse


def _combined_fake(*arguments: Any) -> tuple[torch.Tensor, ...]:
    _check_fake("combined_statistics", arguments)
    return _empty_rows(arguments[0], 2)


def _combined_backward(by_target: Any, by_lse: Any, lse: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    *arguments, least, coefficient, need = arguments  # type: ignore[assignment]
    heads = _TwoCoreHeads("combined_statistics_backward", tuple(arguments))
    out, (first, second) = heads.gradients(need)
    numbers = numbers_a_row(least, lse, by_lse, None if arguments[TENSORS_OF_TWO_HEADS] is None else by_target)
    to_least, to_lse, to_by_lse, to_by_target = map(address, numbers)
    one, other = heads.core
    _core.combined_backward(
        one, other, coefficient, to_least, to_lse, to_by_lse, to_by_target, first, second, heads.workspace, heads.threads
    )
    return out


def _combined_backward_fake(by_target: Any, by_lse: Any, lse: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    return _empty_gradients(list(arguments[:TENSORS_OF_TWO_HEADS]), arguments[-1])


def _keep_combined(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    *heads, least, coefficient = inputs
    ctx.options, ctx.coefficient = heads[TENSORS_OF_TWO_HEADS + 1 :], coefficient
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*heads[: TENSORS_OF_TWO_HEADS + 1], least, output[1])


def _derivative_of_combined(ctx: Any, by_target: torch.Tensor | None, by_lse: torch.Tensor | None) -> tuple[Any, ...]:
    *heads, least, lse = ctx.saved_tensors
    need = _needs(ctx)
    gradients = call("combined_statistics_backward", by_target, by_lse, lse, *heads, *ctx.options, least, ctx.coefficient, need)
    return *_wanted(gradients, need, heads), *(None,) * (3 + len(ctx.options))


register(_COMBINED_BACKWARD, _combined_backward, _combined_backward_fake)
register(_COMBINED, _combined, _combined_fake, _keep_combined, _derivative_of_combined)


# ---- the k-th largest logit -----------------------------------------------------------------------------------------------------------------

_KTH = (
    "kth_largest_logit(Tensor hidden, Tensor weight, Tensor? bias, Tensor? targets, str map, float cap, float scale, int ignore_index, "
    "int workspace, int threads, int k) -> (Tensor maximum, Tensor kth)"
)


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
    head = CoreHead("kth_largest_logit", hidden, weight, targets, bias, map, cap, scale, ignore_index)
    maximum, kth = _empty_rows(hidden, 2)
    head.run(_core.kth_largest, k, address(maximum), address(kth), workspace, torch_thread_count(threads))
    return maximum, kth


def _kth_largest_fake(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor | None, *options: Any
) -> tuple[torch.Tensor, ...]:
    check_tensors("kth_largest_logit", hidden, weight, targets, bias, on_cuda=True)
    return _empty_rows(hidden, 2)


register(_KTH, _kth_largest, _kth_largest_fake)

if HAS_CUDA:
    from . import _cuda_two_heads  # noqa: F401
