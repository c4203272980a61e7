"""The comp-sum family, which leads from the sum of exponentials over cross-entropy to the mean absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._arrays import Array, library, quiet, required, taken
from ._rows import Rows, check_head, check_number, check_same_shape

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming


@quiet
def comp_sum_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    tau: float = 1.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """((1 + v)^(1 - tau) - 1) / (1 - tau) with v = sum over j != y of e^(z_j - z_y) = 1/p - 1; log(1 + v) at tau = 1.

    Args:
        tau: >= 0. 0: sum of exponentials, 1/p - 1. 1: logistic, that is cross-entropy. 1 < tau < 2: generalized cross-entropy
            (1 - p^q)/q with q = tau - 1. 2: mean absolute error 1 - p.
        The others and what is returned and raised: see focal_loss.
    Notes:
        For tau < 1 a row whose (1/p)^(1 - tau) exceeds the float range gives +inf.
    Source: Mao, Mohri and Zhong 2023, Cross-entropy loss functions: theoretical analysis and applications (arXiv:2304.07288), the
        definition of the family; Zhang and Sabuncu 2018 (arXiv:1805.07836) for 1 < tau < 2.
    """
    check_number("comp_sum_loss", "tau", tau, "a finite number of at least 0", lambda x: 0 <= x < float("inf"))
    rows = Rows(
        "comp_sum_loss",
        hidden,
        weight,
        targets,
        ("target", "lse"),
        bias=bias,
        ignore_index=ignore_index,
        reduction=reduction,
        **streaming,
    )
    return rows.reduce(_comp_sum(rows, tau))


@quiet
def smooth_adversarial_comp_sum_loss(
    hidden: Array,
    perturbed_hidden: Array,
    weight: Array,
    targets: Array,
    *,
    tau: float = 1.0,
    coefficient: float = 1.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    scale: Any = 1.0,
    workspace: int | None = None,
    threads: int | None = None,
) -> Array:
    """comp_sum_loss plus coefficient times |Delta(x') - Delta(x)|_2, Delta_j = z_y - z_j: how far a perturbation moves the margins.

    Args:
        hidden: (..., D), of the example x.
        perturbed_hidden: (..., D), of the x' near x that makes the norm large; the caller looks for it, with this loss or another.
        coefficient: >= 0, the paper's nu.
        tau: see comp_sum_loss.
        scale: factor of the logits in both terms. scale, workspace, threads: see row_statistics.
        The others and what is returned and raised: see focal_loss.
    Notes:
        The norm is that of the logits of perturbed_hidden - hidden, which have no bias: two streamed passes in all, without their logits. It
        has no gradient where it is 0.
    Source: Mao, Mohri and Zhong 2023 (arXiv:2304.07288), smooth adversarial comp-sum losses, their supremum over x' taken at the x' that is
        given. The abstract names the smooth term without its formula; this form was not compared with the paper's text.
    """
    name = "smooth_adversarial_comp_sum_loss"
    check_number(name, "tau", tau, "a finite number of at least 0", lambda x: 0 <= x < float("inf"))
    check_number(name, "coefficient", coefficient, "a finite number of at least 0", lambda x: 0 <= x < float("inf"))
    required(name, hidden=hidden, perturbed_hidden=perturbed_hidden)
    hidden, perturbed_hidden = taken(name, hidden=hidden, perturbed_hidden=perturbed_hidden)
    hidden, weight, targets = check_head(name, hidden, weight, targets, bias)
    check_same_shape(name, "hidden", hidden.shape, perturbed_hidden=perturbed_hidden)
    common: dict[str, Any] = {
        "ignore_index": ignore_index,
        "reduction": reduction,
        "scale": scale,
        "workspace": workspace,
        "threads": threads,
    }
    rows = Rows(name, hidden, weight, targets, ("target", "lse"), bias=bias, **common)
    moved = Rows(name, perturbed_hidden - hidden, weight, targets, ("target", "mean", "second_moment"), **common)
    mean = moved.of("mean")
    xp = library(mean)
    squares = moved.classes * ((moved.of("target") - mean) ** 2 + xp.clip(moved.of("second_moment") - mean**2, 0, None))
    moves = squares > 0
    norm = xp.where(moves, xp.sqrt(xp.where(moves, squares, 1.0)), 0.0)
    return rows.reduce(_comp_sum(rows, tau) + coefficient * norm)


def _comp_sum(rows: Rows, tau: float) -> Array:
    log_prob = rows.log_prob()
    return -log_prob if tau == 1 else library(log_prob).expm1((tau - 1) * log_prob) / (1 - tau)
