"""torch operators of formulas that are code for any arrays: labels that count, logits of a few classes, losses of whole rows; and their backward.

The file of each formula has its forward: _labels.py, _gathered_logits.py, _row_chunks.py.
"""

from __future__ import annotations

from typing import Any

import torch

from ._arrays import wide
from ._gathered_logits import chunks, products
from ._labels import counted_labels
from ._operators import ANY_DEVICE, autograd_in_kernel, call, register
from ._row_chunks import Chunks, row_losses

__all__ = ["call"]

# ---- labels -------------------------------------------------------------------------------------------------------------------------------

_LABELS = "counted_labels(Tensor labels, int classes, int? ignore_index, str name) -> Tensor"


def _counted_labels_fake(labels: torch.Tensor, classes: int, ignore_index: int | None, name: str) -> torch.Tensor:
    return torch.empty_like(labels, dtype=torch.bool)


register(_LABELS, counted_labels, _counted_labels_fake, key=ANY_DEVICE)


# ---- logits of a few classes --------------------------------------------------------------------------------------------------------------

_LOGITS = "gathered_logits(Tensor hidden, Tensor weight, Tensor indices) -> Tensor"
_LOGITS_BACKWARD = (
    "gathered_logits_backward(Tensor gradient, Tensor hidden, Tensor weight, Tensor indices, bool need_hidden, bool need_weight) -> "
    "(Tensor grad_hidden, Tensor grad_weight)"
)


def _gathered_logits_fake(hidden: torch.Tensor, weight: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return hidden.new_empty(indices.shape, dtype=wide(hidden))


def _gathered_logits_backward(
    gradient: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, indices: torch.Tensor, need_hidden: bool, need_weight: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    of_hidden = hidden.new_empty(hidden.shape if need_hidden else (0,))
    of_weight = weight.new_zeros(weight.shape if need_weight else (0,), dtype=gradient.dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        for rows in chunks(weight, indices):
            if need_hidden:
                of_hidden[rows] = torch.einsum("nk,nkd->nd", gradient[rows], weight[indices[rows]].to(gradient.dtype)).to(hidden.dtype)
            if need_weight:
                outer = torch.einsum("nk,nd->nkd", gradient[rows], hidden[rows].to(gradient.dtype))
                of_weight.index_add_(0, indices[rows].reshape(-1), outer.reshape(-1, hidden.shape[1]))
    return of_hidden, of_weight.to(weight.dtype)


def _gathered_logits_backward_fake(
    gradient: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, indices: torch.Tensor, need_hidden: bool, need_weight: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    return hidden.new_empty(hidden.shape if need_hidden else (0,)), weight.new_empty(weight.shape if need_weight else (0,))


def _keep_gathered(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _derivative_of_gathered(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
    need_hidden, need_weight = ctx.needs_input_grad[:2]
    of_hidden, of_weight = call("gathered_logits_backward", gradient, *ctx.saved_tensors, need_hidden, need_weight)
    return of_hidden if need_hidden else None, of_weight if need_weight else None, None


register(_LOGITS_BACKWARD, _gathered_logits_backward, _gathered_logits_backward_fake, key=ANY_DEVICE)
register(_LOGITS, products, _gathered_logits_fake, _keep_gathered, _derivative_of_gathered, key=ANY_DEVICE)


# ---- losses of whole rows -----------------------------------------------------------------------------------------------------------------

_ARGUMENTS = (
    "Tensor hidden, Tensor weight, Tensor? bias, Tensor? labels, Tensor? counts, Tensor? values, str function, float[] parameters, "
    "bool summed, float softcap, float scale, int chunk_rows"
)
_HEAD_TENSORS = 3
_ROWS = f"row_losses({_ARGUMENTS}) -> Tensor"
_ROWS_BACKWARD = (
    f"row_losses_backward(Tensor gradient, {_ARGUMENTS}, bool[] need) -> (Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)"
)


def _row_losses_fake(*arguments: Any) -> torch.Tensor:
    hidden, weight, summed = arguments[0], arguments[1], arguments[8]
    return hidden.new_empty((weight.shape[0] if summed else hidden.shape[0],), dtype=wide(hidden))


def _row_losses_backward(gradient: torch.Tensor, *arguments: Any) -> tuple[torch.Tensor, ...]:
    *arguments, need = arguments  # type: ignore[assignment]
    rows = Chunks(tuple(arguments))
    along = gradient if rows.summed else rows.kept(gradient)
    wanted = [at for at in range(_HEAD_TENSORS) if need[at]]
    totals = {at: torch.zeros_like(rows.head[at]) for at in wanted}
    for chunk in rows.slices():
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


def _keep_rows(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    tensors = _HEAD_TENSORS + 3
    ctx.save_for_backward(*inputs[:tensors])
    ctx.options = inputs[tensors:]


def _derivative_of_rows(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    need = list(ctx.needs_input_grad[:_HEAD_TENSORS])
    gradients = call("row_losses_backward", gradient, *ctx.saved_tensors, *ctx.options, need)
    return *(x if wanted else None for x, wanted in zip(gradients, need)), *(None,) * (3 + len(ctx.options))


register(_ROWS_BACKWARD, _row_losses_backward, _row_losses_backward_fake, key=ANY_DEVICE)
register(_ROWS, row_losses, _row_losses_fake, _keep_rows, _derivative_of_rows, key=ANY_DEVICE)
