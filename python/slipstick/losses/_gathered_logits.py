"""Logits of a few given classes a row, without those of the others."""

from __future__ import annotations

from slipstick._arguments import is_torch

from ._arrays import Array, astype, library, new_zeros, wide, without_autocast
from ._numpy import plain_array

CHUNK_BYTES = 16 << 20  # for the gathered rows of the weight


def gathered_logits(hidden: Array, weight: Array, bias: Array | None, indices: Array) -> Array:
    """z[n, i] = hidden[n] . weight[indices[n, i]] + bias[indices[n, i]]: (N, D), (V, D), (V,), (N, k) -> (N, k), at least float32.

    O(N k D) work; gradients for hidden, weight and bias, once.
    """
    if bias is not None and not is_torch(hidden):
        bias = plain_array("slipstick.losses", "bias", bias)
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"slipstick.losses: bias has shape {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}")
    if is_torch(hidden):
        from ._formula_operators import call

        logits = call("gathered_logits", hidden, weight, indices)
    else:
        logits = products(hidden, weight, indices)
    return logits if bias is None else logits + astype(bias, logits.dtype)[indices]


def chunks(weight: Array, indices: Array) -> list[slice]:
    """Rows at once."""
    row_bytes = max(1, indices.shape[1] * weight.shape[1] * 4)
    step = max(1, CHUNK_BYTES // row_bytes)
    return [slice(begin, begin + step) for begin in range(0, len(indices), step)]


def products(hidden: Array, weight: Array, indices: Array) -> Array:
    """hidden[n] . weight[indices[n, i]]."""
    dtype = wide(hidden)
    logits = new_zeros(hidden, indices.shape, dtype)
    with without_autocast(hidden):
        for rows in chunks(weight, indices):
            logits[rows] = library(hidden).einsum("nkd,nd->nk", astype(weight[indices[rows]], dtype), astype(hidden[rows], dtype))
    return logits
