"""Cross-entropy of a combination of two heads: a base model and an assistant, whose logits are subtracted or added."""

from __future__ import annotations

from ._arrays import Array, quiet
from ._two_head_losses import Head, two_heads
from ._two_head_statistics import check_combination


@quiet
def logit_difference_cross_entropy(
    hidden: Array,
    weight: Array,
    assistant_hidden: Array,
    assistant_weight: Array,
    targets: Array,
    *,
    coefficient: float = -1.0,
    threshold: float | None = 0.1,
    kept_share: float = 0.1,
    bias: Array | None = None,
    assistant_bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    scale: float = 1.0,
    workspace: int | None = None,
) -> Array:
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
        All four tensors get gradients if they ask for them; the choice of the likely classes has none. Products of the size of the
        logits: eight, six where the assistant gets no gradients, and one more for the filter, which holds the base model's logits of
        as many rows as fit workspace.
    Source: Ji et al. 2024, Reversing the forget-retain objectives (ULD, arXiv:2406.08607), with the filter of its released code. Its
        assistant is trained with linear_cross_entropy on what to forget plus 5 uniform_kl on what to keep.
    """
    name = "logit_difference_cross_entropy"
    factor = check_combination(name, coefficient, threshold, kept_share)
    heads = two_heads(
        name,
        Head(hidden, weight, bias),
        Head(assistant_hidden, assistant_weight, assistant_bias),
        ("assistant_hidden", "assistant_weight"),
        targets=targets,
        ignore_index=ignore_index,
        reduction=reduction,
        softcap=softcap,
        scale=scale,
        workspace=workspace,
    )
    target, lse = heads.combined(factor, threshold, kept_share)
    return heads.reduce(lse - target)
