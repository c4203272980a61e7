"""Self-adjusting Dice losses: overlap of prediction and label, easy examples weighted down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._arrays import Array, gather, library, log_softmax, quiet
from ._row_chunks import ChunkedRows
from ._rows import Rows, check_choice, check_number, log1m_exp

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming

INFINITY = float("inf")


@quiet
def dice_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    alpha: float = 0.01,
    gamma: float = 1.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """1 - (2 f + gamma) / (f + 1 + gamma) with f = (1 - p)^alpha p, p the softmax probability of the label: the paper's loss of an example.

    Args:
        alpha: >= 0, weighs down examples that are already right.
        gamma: > 0, smoothing.
        The others and what is returned and raised: see focal_loss.
    Source: Li et al. 2020, Dice loss for data-imbalanced NLP tasks (arXiv:1911.02855), the self-adjusting form.
    """
    _check_dice("dice_loss", alpha, gamma)
    rows = Rows(
        "dice_loss",
        hidden,
        weight,
        targets,
        ("target", "lse"),
        bias=bias,
        ignore_index=ignore_index,
        reduction=reduction,
        **streaming,
    )
    overlap = _overlap(rows.log_prob(), alpha)
    return rows.reduce((1 - overlap) / (overlap + 1 + gamma))


@quiet
def all_class_dice_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    alpha: float = 0.01,
    gamma: float = 1.0,
    scope: str = "batch",
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    scale: float = 1.0,
    workspace: int | None = None,
) -> Array:
    """The released code's sum over all classes j of 1 - (2 f_j t_j + gamma) / (F_j + T_j + gamma), f_j = (1 - p_j)^alpha p_j, t one-hot.

    Args:
        scope: "batch": F_j and T_j are sums of f_j and t_j over the rows that count, as in the code; "example": they are the row's own.
        workspace: bytes for the logits of a chunk of rows and what is computed from them; default 64 MiB.
        The others: see dice_loss; what is returned and raised: see focal_loss.
    Notes:
        Whole rows in chunks: four products of the size of the logits for loss and gradients. With scope "batch" rows are coupled, so
        that a row's loss depends on the batch.
    Source: Li et al. 2020 (arXiv:1911.02855); their repository dice_loss_for_NLP, loss/dice_loss.py.
    """
    name = "all_class_dice_loss"
    _check_dice(name, alpha, gamma)
    check_choice(name, "scope", scope, ("batch", "example"))
    chunks = ChunkedRows(
        name,
        hidden,
        weight,
        bias,
        targets=targets,
        ignore_index=ignore_index,
        reduction=reduction,
        softcap=softcap,
        scale=scale,
        workspace=workspace,
    )
    if scope == "example":
        return chunks.reduce(chunks.map(all_class_losses, alpha=alpha, gamma=gamma))
    denominators = chunks.sum(class_overlaps, alpha=alpha) + chunks.label_counts() + gamma
    everywhere = (1 - gamma / denominators).sum()
    return chunks.reduce(everywhere - 2 * chunks.map(label_overlaps, alpha=alpha) / denominators[chunks.labels])


def all_class_losses(logits: Array, labels: Array, alpha: float, gamma: float) -> Array:
    overlap = _overlap(log_softmax(logits, 1), alpha)
    own = gather(overlap, labels[:, None])[:, 0]
    return (overlap / (overlap + gamma)).sum(1) - own / (own + gamma) + (1 - own) / (own + 1 + gamma)


def label_overlaps(logits: Array, labels: Array, alpha: float) -> Array:
    return _overlap(gather(log_softmax(logits, 1), labels[:, None])[:, 0], alpha)


def class_overlaps(logits: Array, labels: Array, alpha: float) -> Array:
    """Summed over the rows: (V,)."""
    return _overlap(log_softmax(logits, 1), alpha).sum(0)


def _check_dice(name: str, alpha: float, gamma: float) -> None:
    check_number(name, "alpha", alpha, "a finite number of at least 0", lambda x: 0 <= x < INFINITY)
    check_number(name, "gamma", gamma, "a positive number", lambda x: 0 < x < INFINITY)


def _overlap(log_prob: Array, alpha: float) -> Array:
    """(1 - p)^alpha p."""
    return library(log_prob).exp(log_prob if alpha == 0 else log_prob + alpha * log1m_exp(log_prob))
