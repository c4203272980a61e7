"""Losses that need more of a row of logits than its statistics: whole rows in chunks of bounded memory, recomputed in backward.

Costs four products of the size of the logits for a loss and its gradients (one more than with all logits in memory). The workspace
holds the logits of a chunk and what is computed from them. Operators: torch.ops.slipstick.row_losses and its backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from . import _head
from ._labels import check_labels
from ._operators import ANY_DEVICE, autograd_in_kernel, call, register
from ._rows import check_head, check_reduction, reduce_losses

COPIES = 8  # arrays of the size of a chunk of logits that a loss and its backward hold at once

RowFunction = Callable[..., torch.Tensor]


class ChunkedRows:
    """Functions of the logits of the rows that count, over one chunk after the other.

    A function stands at the top of a file of this folder, so that the operator finds it by name. It gets a chunk's logits, the
    chunk's labels where there are targets, its values where `map` is given some, and its parameters: numbers, in the order in which they are
    given, under the names that the caller of the loss knows. Gradients go to the heads only.
    """

    def __init__(
        self,
        name: str,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        targets: torch.Tensor | None,
        ignore_index: int,
        reduction: str,
        softcap: float | None,
        scale: float,
        workspace: int | None,
    ) -> None:
        check_reduction(name, reduction)
        check_head(name, hidden, weight, targets)
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"{name}: bias has shape {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}")
        cap = 0.0 if softcap is None else _head.number(name, "softcap", softcap)
        if softcap is not None and not 0 < cap < math.inf:
            raise ValueError(f"{name}: softcap is {softcap}; expected a positive number or None")
        factor = _head.number(name, "scale", scale)
        if not abs(factor) < math.inf:
            raise ValueError(f"{name}: scale is {scale}; expected a finite number")
        if not hidden.is_floating_point():
            raise TypeError(f"{name}: hidden has dtype {str(hidden.dtype)[6:]}; expected a floating one")
        budget = _head.workspace_bytes(name, workspace)
        self.shape = hidden.shape[:-1]
        self.reduction = reduction
        self.classes = weight.shape[0]
        self.dtype = _wide(hidden)
        self.counts = None if targets is None else check_labels(name, targets, self.classes, ignore_index)
        self._name = name
        self._tensors = hidden.reshape(-1, hidden.shape[-1]), weight, bias
        self._counts = None if self.counts is None else self.counts.reshape(-1)
        self._labels = None if targets is None else targets.reshape(-1)
        self._options = cap, factor, max(1, budget // max(1, COPIES * self.classes * self.dtype.itemsize))

    @property
    def labels(self) -> torch.Tensor:
        """Of all rows, in their shape; 0 in rows that do not count."""
        assert self._labels is not None and self._counts is not None
        return torch.where(self._counts, self._labels, 0).reshape(self.shape)

    def label_counts(self) -> torch.Tensor:
        """How many rows that count have each class: (V,), of the type of the losses."""
        assert self.counts is not None
        counts = self.counts.reshape(-1).to(self.dtype)
        return counts.new_zeros(self.classes).index_add(0, self.labels.reshape(-1), counts)

    def map(self, function: RowFunction, values: torch.Tensor | None = None, **parameters: float) -> torch.Tensor:
        """function of every row, in the shape of the rows; 0 in those that do not count. values: one number a row, without gradient."""
        return self._run(function, False, values, parameters).reshape(self.shape)

    def sum(self, function: RowFunction, **parameters: float) -> torch.Tensor:
        """function of every chunk, a number for each class, summed up."""
        return self._run(function, True, None, parameters)

    def reduce(self, losses: torch.Tensor) -> torch.Tensor:
        return reduce_losses(losses, self.counts, self.reduction)

    def _run(self, function: RowFunction, summed: bool, values: torch.Tensor | None, parameters: dict[str, float]) -> torch.Tensor:
        numbers = [_head.number(self._name, name, parameter) for name, parameter in parameters.items()]
        where = f"{function.__module__.rpartition('.')[2]}:{function.__name__}"
        flat = None if values is None else values.detach().reshape(-1)
        result: torch.Tensor = call("row_losses", *self._tensors, self._labels, self._counts, flat, where, numbers, summed, *self._options)
        return result


# ---- the operators ------------------------------------------------------------------------------------------------------------------------

_ARGUMENTS = (
    "Tensor hidden, Tensor weight, Tensor? bias, Tensor? labels, Tensor? counts, Tensor? values, str function, float[] parameters, "
    "bool summed, float softcap, float scale, int chunk_rows"
)
_HEAD_TENSORS = 3
_LOSSES = f"row_losses({_ARGUMENTS}) -> Tensor"
_BACKWARD = f"row_losses_backward(Tensor gradient, {_ARGUMENTS}, bool[] need) -> (Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)"


def _wide(hidden: torch.Tensor) -> torch.dtype:
    """That of the logits: half precision is widened whole, hidden and weight."""
    return torch.promote_types(hidden.dtype, torch.float32)


class _Rows:
    """What both operators are given, widened, without the rows that do not count."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        hidden, weight, bias, labels, counts, values, function, parameters, *options = arguments
        self.summed, self._softcap, self._scale, self.chunk_rows = options
        kind = _wide(hidden)
        self.counts, self.rows = counts, len(hidden)
        self.head = [self.kept(hidden.to(kind)), weight.to(kind), None if bias is None else bias.to(kind)]
        self._beside = [self.kept(x) for x in (labels, None if values is None else values.to(kind)) if x is not None]
        self._parameters = parameters
        module, _, name = function.partition(":")
        self._function = getattr(import_module(f"{__package__}.{module}"), name)

    def kept(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.counts is None else x[self.counts]

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """Rows that count put back among the others, which are 0."""
        if self.counts is None:
            return x
        result = x.new_zeros((self.rows, *x.shape[1:]))
        result[self.counts] = x
        return result

    def chunks(self) -> list[slice]:
        """At least one, so that an empty batch has a result of the right dtype."""
        return [slice(begin, begin + self.chunk_rows) for begin in range(0, max(1, len(self.head[0])), self.chunk_rows)]

    def parts(self, rows: slice) -> list[Any]:
        hidden, weight, bias = self.head
        return [hidden[rows], weight, bias]

    def losses(self, rows: slice, parts: list[Any]) -> torch.Tensor:
        result: torch.Tensor = self._function(self._logits(*parts), *(x[rows] for x in self._beside), *self._parameters)
        return result

    def _logits(self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        logits = torch.nn.functional.linear(hidden, weight, bias) * self._scale
        return logits if self._softcap == 0 else self._softcap * torch.tanh(logits / self._softcap)


def _row_losses(*arguments: Any) -> torch.Tensor:
    rows = _Rows(arguments)
    with torch.autocast(arguments[0].device.type, enabled=False):  # the backward, which computes them again, is outside of it
        results = [rows.losses(chunk, rows.parts(chunk)) for chunk in rows.chunks()]
    return torch.stack(results).sum(0) if rows.summed else rows.whole(torch.cat(results))


def _row_losses_fake(*arguments: Any) -> torch.Tensor:
    hidden, weight, summed = arguments[0], arguments[1], arguments[8]
    return hidden.new_empty((weight.shape[0] if summed else hidden.shape[0],), dtype=_wide(hidden))


def _row_losses_backward(gradient: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    *arguments, need = arguments  # type: ignore[assignment]
    rows = _Rows(tuple(arguments))
    along = gradient if rows.summed else rows.kept(gradient)
    wanted = [at for at in range(_HEAD_TENSORS) if need[at]]
    totals = {at: torch.zeros_like(rows.head[at]) for at in wanted}
    for chunk in rows.chunks():
        parts = rows.parts(chunk)
        with autograd_in_kernel(), torch.autocast(gradient.device.type, enabled=False):
            for at in wanted:
                parts[at] = parts[at].detach().requires_grad_()
            # Of a number, for torch imports its symbolic shapes, half a second, where a gradient is given.
            upstream = along if rows.summed else along[chunk]
            here = torch.autograd.grad((rows.losses(chunk, parts) * upstream).sum(), [parts[at] for at in wanted])
        for at, part in zip(wanted, here):
            if at == 0:
                totals[at][chunk] = part
            else:
                totals[at] += part
    return tuple(
        (rows.whole(totals[at]) if at == 0 else totals[at]).to(arguments[at].dtype) if at in totals else gradient.new_empty((0,))
        for at in range(_HEAD_TENSORS)
    )


def _row_losses_backward_fake(gradient: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    need = arguments[-1]
    return tuple(arguments[at].new_empty(arguments[at].shape) if need[at] else gradient.new_empty((0,)) for at in range(_HEAD_TENSORS))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    tensors = _HEAD_TENSORS + 3
    ctx.save_for_backward(*inputs[:tensors])
    ctx.options = inputs[tensors:]


def _derivative(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    need = list(ctx.needs_input_grad[:_HEAD_TENSORS])
    gradients = call("row_losses_backward", gradient, *ctx.saved_tensors, *ctx.options, need)
    return *(x if wanted else None for x, wanted in zip(gradients, need)), *(None,) * (3 + len(ctx.options))


register(_BACKWARD, _row_losses_backward, _row_losses_backward_fake, key=ANY_DEVICE)
register(_LOSSES, _row_losses, _row_losses_fake, _keep, _derivative, key=ANY_DEVICE)
