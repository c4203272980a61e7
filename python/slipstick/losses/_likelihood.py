"""Losses of the label's log-probability and of log Z: focal, label smoothing, the penalty on log Z squared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._arrays import Array, library, quiet
from ._rows import Rows, check_number, log1m_exp

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming


@quiet
def focal_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    gamma: float = 2.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """-(1 - p)^gamma log p, with p the softmax probability of the label.

    Args:
        hidden: (..., D) torch tensor or NumPy array of a dtype of row_statistics. Arrays give values, without gradients.
        weight: (V, D), same library and dtype.
        targets: (...) int64 labels; NumPy's of any integer dtype.
        gamma: >= 0; 0 is cross-entropy.
        bias: (V,) or None.
        ignore_index: label of rows that do not count.
        reduction: "mean" over rows that count, "sum", or "none" with 0 in the others.
        streaming: softcap, scale, filter_eps, workspace, threads: see row_statistics.
    Returns:
        A scalar, or (...) for "none", of the inputs' library; float64 for float64 inputs, else float32.
    Raises:
        ValueError: shapes do not fit, gamma is negative, reduction is unknown. TypeError, IndexError: see row_statistics.
    Source: Lin et al. 2017, Focal loss for dense object detection (arXiv:1708.02002), section 3.2.
    """
    check_number("focal_loss", "gamma", gamma, "a number of at least 0", lambda x: x >= 0)
    rows = Rows(
        "focal_loss",
        hidden,
        weight,
        targets,
        ("target", "lse"),
        bias=bias,
        ignore_index=ignore_index,
        reduction=reduction,
        **streaming,
    )
    log_prob = rows.log_prob()
    return rows.reduce(-log_prob if gamma == 0 else -library(log_prob).exp(gamma * log1m_exp(log_prob)) * log_prob)


@quiet
def label_smoothed_cross_entropy(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    smoothing: float = 0.1,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """Cross-entropy against (1 - smoothing) onehot + smoothing / V: lse - (1 - smoothing) z_y - smoothing mean(z).

    Args:
        smoothing: from 0 to 1.
        The others and what is returned and raised: see focal_loss.
    Source: Szegedy et al. 2016, Rethinking the Inception architecture (arXiv:1512.00567), section 7; as torch's label_smoothing.
    """
    name = "label_smoothed_cross_entropy"
    check_number(name, "smoothing", smoothing, "a number from 0 to 1", lambda x: 0 <= x <= 1)
    rows = Rows(
        name,
        hidden,
        weight,
        targets,
        ("target", "lse", "mean"),
        bias=bias,
        ignore_index=ignore_index,
        reduction=reduction,
        **streaming,
    )
    lse = rows.of("lse")
    return rows.reduce((1 - smoothing) * (lse - rows.of("target")) + smoothing * (lse - rows.of("mean")))


@quiet
def log_partition_penalty(
    hidden: Array,
    weight: Array,
    targets: Array | None = None,
    *,
    coefficient: float = 1e-4,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """coefficient (log Z)^2, which keeps logits from drifting; to be added to a loss. Often called z-loss; it is not z_score_loss.

    Args:
        targets: (...) int64; only says which rows count. None: all do.
        coefficient: any finite number.
        The others and what is returned and raised: see focal_loss.
    Notes:
        linear_cross_entropy(z_loss=coefficient) adds it without a second pass over the vocabulary.
    Source: Wortsman et al. 2024, Small-scale proxies for large-scale Transformer training instabilities (arXiv:2309.14322).
    """
    name = "log_partition_penalty"
    check_number(name, "coefficient", coefficient, "a finite number", lambda x: abs(x) < float("inf"))
    rows = Rows(name, hidden, weight, targets, ("lse",), bias=bias, ignore_index=ignore_index, reduction=reduction, **streaming)
    return rows.reduce(coefficient * rows.of("lse") ** 2)
