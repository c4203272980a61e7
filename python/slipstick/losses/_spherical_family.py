"""Losses of the spherical family: functions of the label's logit, the sum and the sum of squares of all logits; no exponential.

Each formula stands once, over the label's logit and the mean and second moment of the row; SphericalHead has the same formulas with
their derivatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._arrays import Array, library, quiet, softplus
from ._rows import Rows, check_number

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming

MOMENTS = ("target", "mean", "second_moment")


@quiet
def z_score_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    alpha: float = 1.0,
    beta: float = 0.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """The Z-loss: (1/alpha) log(1 + e^(alpha (beta - zeta))), zeta = (z_y - mean) / deviation, the z-score of the label's logit.

    Args:
        alpha: > 0.
        beta: the z-score that is asked for; any finite number.
        The others and what is returned and raised: see focal_loss.
    Notes:
        It has nothing to do with the penalty on (log Z)^2 that is also called z-loss: log_partition_penalty. A row of equal logits has no
        z-score; zeta is taken as 0 there, without gradient. The variance comes from the moments: where |mean| is more than about 1000
        deviations, use float64.
    Source: de Brebisson and Vincent 2016, The Z-loss: a shift and scale invariant classification loss (arXiv:1604.08859).
    """
    check_number("z_score_loss", "alpha", alpha, "a positive number", lambda x: 0 < x < float("inf"))
    check_number("z_score_loss", "beta", beta, "a finite number", lambda x: abs(x) < float("inf"))
    rows = Rows("z_score_loss", hidden, weight, targets, MOMENTS, bias=bias, ignore_index=ignore_index, reduction=reduction, **streaming)
    mean = rows.of("mean")
    variance = rows.of("second_moment") - mean**2
    xp = library(mean)
    flat = variance <= 0  # false for NaN, which stays NaN
    deviation = xp.sqrt(xp.where(flat, 1.0, variance))
    z_score = xp.where(flat, 0.0, (rows.of("target") - mean) / deviation)
    return rows.reduce(softplus(alpha * (beta - z_score)) / alpha)


@quiet
def spherical_softmax_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    epsilon: float = 1e-2,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """-log((z_y^2 + epsilon) / sum_j (z_j^2 + epsilon)).

    Args:
        epsilon: > 0; keeps the loss finite where z_y = 0.
        The others and what is returned and raised: see focal_loss.
    Source: de Brebisson and Vincent 2016, An exploration of softmax alternatives belonging to the spherical loss family
        (arXiv:1511.05042).
    """
    name = "spherical_softmax_loss"
    check_number(name, "epsilon", epsilon, "a positive number", lambda x: 0 < x < float("inf"))
    want = ("target", "second_moment")
    rows = Rows(name, hidden, weight, targets, want, bias=bias, ignore_index=ignore_index, reduction=reduction, **streaming)
    label = rows.of("target", 1.0) ** 2 + epsilon
    xp = library(label)
    return rows.reduce(xp.log(rows.classes * (rows.of("second_moment", 1.0) + epsilon)) - xp.log(label))


@quiet
def taylor_softmax_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """-log(t(z_y) / sum_j t(z_j)) with t(x) = 1 + x + x^2/2 >= 1/2, the exponential's expansion to second order.

    Args and what is returned and raised: see focal_loss.
    Source: de Brebisson and Vincent 2016 (arXiv:1511.05042).
    """
    name = "taylor_softmax_loss"
    rows = Rows(name, hidden, weight, targets, MOMENTS, bias=bias, ignore_index=ignore_index, reduction=reduction, **streaming)
    label = rows.of("target")
    average = 1 + rows.of("mean") + rows.of("second_moment") / 2
    xp = library(label)
    return rows.reduce(xp.log(rows.classes * average) - xp.log(1 + label + label**2 / 2))


@quiet
def one_hot_squared_error(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """sum_j (z_j - [j = y])^2 = sum_j z_j^2 - 2 z_y + 1.

    Args and what is returned and raised: see focal_loss.
    Source: Vincent, de Brebisson and Bouthillier 2015, Efficient exact gradient update for training deep networks with very large
        sparse targets (arXiv:1412.7091).
    """
    name = "one_hot_squared_error"
    want = ("target", "second_moment")
    rows = Rows(name, hidden, weight, targets, want, bias=bias, ignore_index=ignore_index, reduction=reduction, **streaming)
    return rows.reduce(rows.classes * rows.of("second_moment") - 2 * rows.of("target") + 1)
