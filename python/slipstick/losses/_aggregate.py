"""Learning from bags of examples of which only the labels of the whole bag are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._arrays import Array, as_autocast, astype, library, logsumexp, quiet, required, taken, without_autocast
from ._labels import check_labels
from ._rows import Rows, check_head, check_number

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming


@quiet
def aggregate_cross_entropy(
    hidden: Array,
    weight: Array,
    labels: Array,
    *,
    interpolation: float = 0.0,
    bias: Array | None = None,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """(1 - rho) L_bag + rho L_instance of each bag of m examples, rho the interpolation.

    The bag's response is the average of m one-hot labels, in no order. L_bag is its cross-entropy against the average of the examples'
    softmax probabilities, L_instance the average of its cross-entropies against each example's.

    Args:
        hidden: (..., m, D) torch tensor or NumPy array, see focal_loss: the examples of each bag.
        weight: (V, D), same dtype.
        labels: (..., m) int64, the labels of the bag; their order does not matter.
        interpolation: rho from 0, the bag loss, to 1, the instance loss.
        bias: (V,) or None.
        reduction: "mean" over bags, "sum", or "none".
        streaming: softcap, scale, filter_eps, workspace, threads: see row_statistics.
    Returns:
        A scalar, or (...) for "none"; float64 for float64 inputs, else float32.
    Raises:
        ValueError: shapes do not fit, interpolation is outside [0, 1], reduction is unknown. TypeError: labels is not int64.
        IndexError: a label is out of range.
    Notes:
        One pass over the vocabulary: beyond the log-sum-exps only the m x m logits of a bag's examples at its labels are needed, O(N m D).
    Source: Javanmard et al. 2024, Learning from aggregate responses: instance level versus bag level loss functions (ICLR 2024), for the
        two losses and their interpolation; which end is 0 is our convention.
    """
    name = "aggregate_cross_entropy"
    check_number(name, "interpolation", interpolation, "a number from 0 to 1", lambda x: 0 <= x <= 1)
    required(name, labels=labels)
    hidden, weight, labels = check_head(name, hidden, weight, labels, bias, argument="labels")
    _, bias = taken(name, hidden=hidden, bias=bias)
    xp = library(hidden)
    if labels.ndim < 1 or labels.shape[-1] < 1:
        raise ValueError(f"{name}: labels has shape {tuple(labels.shape)}; expected (..., m), m >= 1")
    labels = xp.where(check_labels(name, labels, weight.shape[0], None, "labels"), labels, 0)
    hidden, weight = as_autocast(hidden, weight)  # as row_statistics does, so that logits and lse belong together
    rows = Rows(name, hidden, weight, None, ("lse",), bias=bias, reduction=reduction, **streaming)
    lse = rows.of("lse").reshape(labels.shape)
    dtype = lse.dtype
    with without_autocast(hidden):
        logits = xp.einsum("...id,...jd->...ij", astype(hidden, dtype), astype(weight[labels], dtype))  # example i at the bag's label j
    if bias is not None:
        logits = logits + astype(bias, dtype)[labels][..., None, :]
    logits = logits * streaming.get("scale", 1.0)
    softcap = streaming.get("softcap")
    if softcap is not None:
        logits = softcap * xp.tanh(logits / softcap)
    log_prob = logits - lse[..., None]
    losses = xp.zeros_like(lse[..., 0])
    if interpolation < 1:
        bag = math.log(labels.shape[-1]) - logsumexp(log_prob, -2)
        losses = losses + (1 - interpolation) * bag.mean(-1)
    if interpolation > 0:
        losses = losses - interpolation * log_prob.mean((-2, -1))
    rows.shape = labels.shape[:-1]
    return rows.reduce(losses)
