"""Logits of a few given classes a row, without those of the others: torch.ops.slipstick.gathered_logits and its backward."""

from __future__ import annotations

from typing import Any

import torch

from ._operators import ANY_DEVICE, call, register

CHUNK_BYTES = 16 << 20  # for the gathered rows of the weight

_LOGITS = "gathered_logits(Tensor hidden, Tensor weight, Tensor indices) -> Tensor"
_BACKWARD = (
    "gathered_logits_backward(Tensor gradient, Tensor hidden, Tensor weight, Tensor indices, bool need_hidden, bool need_weight) -> "
    "(Tensor grad_hidden, Tensor grad_weight)"
)


def gathered_logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, indices: torch.Tensor) -> torch.Tensor:
    """z[n, i] = hidden[n] . weight[indices[n, i]] + bias[indices[n, i]]: (N, D), (V, D), (V,), (N, k) -> (N, k), at least float32.

    O(N k D) work; gradients for hidden, weight and bias, once.
    """
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"slipstick.losses: bias has shape {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}")
    logits: torch.Tensor = call("gathered_logits", hidden, weight, indices)
    return logits if bias is None else logits + bias.to(logits.dtype)[indices]


def _wide(hidden: torch.Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


def _chunks(weight: torch.Tensor, indices: torch.Tensor) -> list[slice]:
    row_bytes = max(1, indices.shape[1] * weight.shape[1] * 4)
    step = max(1, CHUNK_BYTES // row_bytes)
    return [slice(begin, begin + step) for begin in range(0, len(indices), step)]


def _gathered_logits(hidden: torch.Tensor, weight: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    dtype = _wide(hidden)
    logits = hidden.new_empty(indices.shape, dtype=dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        for rows in _chunks(weight, indices):
            logits[rows] = torch.einsum("nkd,nd->nk", weight[indices[rows]].to(dtype), hidden[rows].to(dtype))
    return logits


def _gathered_logits_fake(hidden: torch.Tensor, weight: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return hidden.new_empty(indices.shape, dtype=_wide(hidden))


def _gathered_logits_backward(
    gradient: torch.Tensor, hidden: torch.Tensor, weight: torch.Tensor, indices: torch.Tensor, need_hidden: bool, need_weight: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    of_hidden = hidden.new_empty(hidden.shape if need_hidden else (0,))
    of_weight = weight.new_zeros(weight.shape if need_weight else (0,), dtype=gradient.dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        for rows in _chunks(weight, indices):
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


def _keep(ctx: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _derivative(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
    need_hidden, need_weight = ctx.needs_input_grad[:2]
    of_hidden, of_weight = call("gathered_logits_backward", gradient, *ctx.saved_tensors, need_hidden, need_weight)
    return of_hidden if need_hidden else None, of_weight if need_weight else None, None


register(_BACKWARD, _gathered_logits_backward, _gathered_logits_backward_fake, key=ANY_DEVICE)
register(_LOGITS, _gathered_logits, _gathered_logits_fake, _keep, _derivative, key=ANY_DEVICE)
