"""Cross-entropy of a combination of two heads: a base model and an assistant, whose logits are subtracted or added."""

from __future__ import annotations

import math

import torch

from ._row_chunks import ChunkedRows, Head
from ._rows import check_head, check_number


def logit_difference_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    assistant_hidden: torch.Tensor,
    assistant_weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    coefficient: float = -1.0,
    threshold: float | None = 0.1,
    kept_share: float = 0.1,
    bias: torch.Tensor | None = None,
    assistant_bias: torch.Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    scale: float = 1.0,
    workspace: int | None = None,
) -> torch.Tensor:
    """Cross-entropy of z = z_base + coefficient z_assistant, the assistant's logits being 0 outside the base model's likely classes.

    A class is likely where log p_base,j >= min(max_j log p_base + log threshold, the k-th largest log p_base), k = int(kept_share V).

    Args:
        hidden, weight, bias: the base model's: (..., D), (V, D), (V,) or None.
        assistant_hidden, assistant_weight, assistant_bias: the assistant's: (..., E), (V, E), (V,) or None.
        targets: (...) int64 labels.
        coefficient: -1 unlearns what the assistant has learnt; any finite number.
        threshold: between 0 and 1, or None: no filter, as in the offset baseline.
        kept_share: from 0 to 1; at least one class is kept.
        softcap, scale: of both heads, before they are combined.
        workspace, ignore_index, reduction, and what is returned and raised: see distillation_loss.
    Notes:
        All four tensors get gradients if they ask for them; the choice of the likely classes has none. Whole rows in chunks.
    Source: Ji et al. 2024, Reversing the forget-retain objectives (ULD, arXiv:2406.08607), with the filter of its released code. Its
        assistant is trained with linear_cross_entropy on what to forget plus 5 uniform_kl on what to keep.
    """
    name = "logit_difference_cross_entropy"
    check_number(name, "coefficient", coefficient, "a finite number", abs(coefficient) < math.inf)
    check_number(
        name, "threshold", 0.5 if threshold is None else threshold, "a number between 0 and 1", threshold is None or 0 < threshold < 1
    )
    check_number(name, "kept_share", kept_share, "a number from 0 to 1", 0 <= kept_share <= 1)
    check_head(name, assistant_hidden, assistant_weight, None, "assistant_hidden", "assistant_weight")
    check_head(name, hidden, weight, targets)
    if assistant_hidden.shape[:-1] != hidden.shape[:-1] or assistant_weight.shape[0] != weight.shape[0]:
        raise ValueError(
            f"{name}: assistant_hidden and assistant_weight have shapes {tuple(assistant_hidden.shape)} and {tuple(assistant_weight.shape)}; "
            f"expected {(*hidden.shape[:-1], 'E')} and {(weight.shape[0], 'E')}"
        )
    chunks = ChunkedRows(
        name,
        Head(hidden, weight, bias),
        Head(assistant_hidden, assistant_weight, assistant_bias),
        targets=targets,
        ignore_index=ignore_index,
        reduction=reduction,
        softcap=softcap,
        scale=scale,
        workspace=workspace,
    )
    kept = max(1, int(kept_share * chunks.classes))

    return chunks.reduce(
        chunks.map(row_losses, coefficient=coefficient, threshold=0.0 if threshold is None else threshold, kept_share=kept)
    )


def row_losses(
    logits: torch.Tensor, others: torch.Tensor, labels: torch.Tensor, coefficient: float, threshold: float, kept: float
) -> torch.Tensor:
    """threshold 0: no filter."""
    if threshold > 0:
        base = logits.detach()
        least = torch.minimum(base.max(1).values + math.log(threshold), torch.topk(base, int(kept), dim=1).values[:, -1])
        others = torch.where(base >= least[:, None], others, 0.0)
    return torch.nn.functional.cross_entropy(logits + coefficient * others, labels, reduction="none")
