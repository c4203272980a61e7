"""Cross-entropy over another map of the logits than the identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._arrays import Array, quiet
from ._rows import Rows

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming


@quiet
def stablemax_cross_entropy(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """-log(s(z_y) / sum_j s(z_j)) with s(x) = x + 1 for x >= 0 and 1/(1 - x) below: no exponential that can collapse.

    Args and what is returned and raised: see focal_loss.
    Notes:
        Streamed as the cross-entropy of sign(z) log(1 + |z|) (proposition 1 of the paper). Probabilities fall only like 1/|z|, so
        that filter_eps drops more than it does for softmax.
    Source: Prieto et al. 2025, Grokking at the edge of numerical stability (arXiv:2501.04697), definition 4.
    """
    rows = Rows(
        "stablemax_cross_entropy",
        hidden,
        weight,
        targets,
        ("target", "lse"),
        bias=bias,
        ignore_index=ignore_index,
        reduction=reduction,
        logit_map="stablemax",
        **streaming,
    )
    return rows.reduce(-rows.log_prob())
