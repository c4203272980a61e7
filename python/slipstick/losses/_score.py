"""Scores of whole sequences under two models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._arrays import Array, quiet, required, taken
from ._head import call_as
from ._preference import sequence_log_prob

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming


@quiet
def likelihood_ratio_score(
    hidden: Array,
    weight: Array,
    base_hidden: Array,
    base_weight: Array,
    targets: Array,
    *,
    average: bool = False,
    bias: Array | None = None,
    base_bias: Array | None = None,
    ignore_index: int = -100,
    **streaming: Unpack[Streaming],
) -> Array:
    """log p(y) - log p_base(y) of each sequence: how much likelier a fine-tuned model finds it than its base; low for foreign data.

    Args:
        hidden, weight, bias: (..., T, D), (V, D), (V,) or None.
        base_hidden, base_weight, base_bias: (..., T, E), (V', E), (V',) or None.
        targets: (..., T) int64; padding carries ignore_index.
        average: divide by the number of tokens that count.
        streaming: of both heads.
    Returns:
        (...), higher is more like the data of fine-tuning; differentiable.
    Raises:
        As sequence_log_prob.
    Source: Zhang et al. 2024, Your finetuned large language model is already a powerful out-of-distribution detector (arXiv:2404.08679).
    """
    names = "likelihood_ratio_score", "sequence_log_prob"
    options: dict[str, Any] = {"average": average, "ignore_index": ignore_index, **streaming}
    required(names[0], targets=targets)
    taken(names[0], hidden=hidden, base_hidden=base_hidden)
    tuned = call_as(*names, sequence_log_prob, hidden, weight, targets, bias=bias, **options)
    base = call_as(*names, sequence_log_prob, base_hidden, base_weight, targets, bias=base_bias, prefix="base_", **options)
    return tuned - base
