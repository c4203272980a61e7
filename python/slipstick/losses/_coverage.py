"""Direct coverage optimisation: train for at least one right answer among several tries."""

from __future__ import annotations

import math

from ._arrays import Array, floats, library, quiet
from ._rows import check_number, check_reduction, log1m_exp, reduce_losses

RARE = -18.0  # log of (tries x probability), below which the loss is its expansion; the next term is under 1e-16


@quiet
def dco_loss(log_prob: Array, *, tries: int, reduction: str = "mean") -> Array:
    """-log(1 - (1 - P)^tries): the negative log-probability that at least one of `tries` independent samples is the answer.

    Args:
        log_prob: (...) torch tensor or NumPy array of float16, float32, float64 or, of torch alone, bfloat16: log P of each answer; see
            sequence_log_prob for P = the product over its tokens.
        tries: >= 1; 1 is the negative log-likelihood. The paper's N.
        reduction: "mean", "sum" or "none".
    Returns:
        A scalar, or (...) for "none", in the dtype of log_prob.
    Raises:
        TypeError: log_prob is an array of another dtype. ValueError: tries is below 1, reduction is unknown.
    Notes:
        The gradient is F times that of -log P with F = N (1 - P)^(N - 1) P / (1 - (1 - P)^N), from 1 where P is small to 0 where it is 1.
        log P > 0 is read as just below 0.
    Source: Chen et al. 2025, Rethinking fine-tuning when scaling test-time compute: limiting confidence improves mathematical reasoning
        (arXiv:2502.07154).
    """
    check_reduction("dco_loss", reduction)
    check_number("dco_loss", "tries", tries, "a whole number of at least 1", lambda x: isinstance(x, int) and x >= 1)
    (log_prob,) = floats("dco_loss", log_prob=log_prob)
    if tries == 1:
        return reduce_losses(-log_prob, None, reduction, log_prob.dtype)
    xp = library(log_prob)
    rare = log_prob + math.log(tries) < RARE
    expanded = -log_prob - math.log(tries) + (tries - 1) / 2 * xp.exp(xp.where(rare, log_prob, -1.0))
    losses = -log1m_exp(tries * log1m_exp(xp.where(rare, -1.0, log_prob)))
    return reduce_losses(xp.where(rare, expanded, losses), None, reduction, log_prob.dtype)
