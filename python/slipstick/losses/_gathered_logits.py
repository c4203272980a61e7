"""Logits of a few given classes a row, without those of the others."""

from __future__ import annotations

import numpy as np

from slipstick._arguments import is_torch

from ._arrays import Array, astype, library, new_zeros, taken, wide, without_autocast
from ._traced import Traced, add_rows, untraced

CHUNK_BYTES = 16 << 20  # for the gathered rows of the weight


def gathered_logits(name: str, hidden: Array, weight: Array, bias: Array | None, indices: Array, argument: str = "bias") -> Array:
    """z[n, i] = hidden[n] . weight[indices[n, i]] + bias[indices[n, i]]: (N, D), (V, D), (V,), (N, k) -> (N, k), at least float32.

    O(N k D) work; gradients for hidden, weight and bias, once. name, argument: the function's and the bias's, in errors.
    """
    hidden, bias = taken(name, **{"hidden": hidden, argument: bias})
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{name}: {argument} has shape {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}")
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
    if isinstance(hidden, Traced) or isinstance(weight, Traced):
        return _traced_products(hidden, weight, indices)
    dtype = wide(hidden)
    logits = new_zeros(hidden, indices.shape, dtype)
    with without_autocast(hidden):
        for rows in chunks(weight, indices):
            logits[rows] = library(hidden).einsum("nkd,nd->nk", astype(weight[indices[rows]], dtype), astype(hidden[rows], dtype))
    return logits


def _traced_products(hidden: Array, weight: Array, indices: Array) -> Array:
    """products of NumPy arrays whose gradients are wanted; see _gathered_logits_backward of _formula_operators.py."""
    x, w = untraced(hidden), untraced(weight)

    def pull(gradient: Array) -> list[Array]:
        of_hidden, of_weight = new_zeros(gradient, x.shape), new_zeros(gradient, w.shape)
        for rows in chunks(w, indices):
            of_hidden[rows] = np.einsum("nk,nkd->nd", gradient[rows], astype(w[indices[rows]], gradient.dtype))
            outer = np.einsum("nk,nd->nkd", gradient[rows], astype(x[rows], gradient.dtype))
            add_rows(of_weight, indices[rows].reshape(-1), outer.reshape(-1, x.shape[1]))
        return [part for operand, part in ((hidden, of_hidden), (weight, of_weight)) if isinstance(operand, Traced)]

    return Traced(products(x, w, indices), tuple(operand for operand in (hidden, weight) if isinstance(operand, Traced)), pull)
