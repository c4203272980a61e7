"""Divergences between the uniform distribution and the model's, in both directions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._arrays import Array, quiet
from ._rows import Rows, check_choice

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming


@quiet
def uniform_kl(
    hidden: Array,
    weight: Array,
    targets: Array | None = None,
    *,
    direction: str = "from_uniform",
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """KL divergence between the uniform distribution U over V classes and the model's p.

    Args:
        targets: (...) int64; only says which rows count. None: all do.
        direction: "from_uniform" is KL(U||p) = lse - mean(z) - log V, the retain term of ULD; "to_uniform" is KL(p||U) = log V - H(p),
            the confidence penalty up to a constant.
        The others and what is returned and raised: see focal_loss.
    Notes:
        Rounding can leave a result of about -1e-7 log V where p is uniform.
    Source: Ji et al. 2024, Reversing the forget-retain objectives (arXiv:2406.08607), whose code has KL(U||p); Pereyra et al. 2017,
        Regularizing neural networks by penalizing confident output distributions (arXiv:1701.06548), has KL(p||U).
    """
    check_choice("uniform_kl", "direction", direction, ("from_uniform", "to_uniform"))
    want = ("lse", "mean") if direction == "from_uniform" else ("entropy",)
    rows = Rows("uniform_kl", hidden, weight, targets, want, bias=bias, ignore_index=ignore_index, reduction=reduction, **streaming)
    log_classes = math.log(rows.classes) if rows.classes else -math.inf
    if direction == "from_uniform":
        return rows.reduce(rows.of("lse") - rows.of("mean") - log_classes)
    return rows.reduce(log_classes - rows.of("entropy"))
