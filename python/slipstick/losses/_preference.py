"""Preference and unlearning losses: functions of the log-probability of whole answers.

    >>> chosen, rejected = sequence_log_prob(h, weight, labels), sequence_log_prob(h2, weight, labels2)    # doctest: +SKIP
    >>> dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=0.1).backward()              # doctest: +SKIP

The logits of the policy are streamed once forward and once backward for all of them; a reference is a pass without gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._arrays import Array, astype, dtype_name, floats, library, log_sigmoid, number_like, quiet, required, sigmoid, taken
from ._rows import Rows, check_flag, check_head, check_number, check_reduction, check_same_shape, log1m_exp, reduce_losses

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming

INFINITY = float("inf")


@quiet
def sequence_log_prob(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    average: bool = False,
    bias: Array | None = None,
    ignore_index: int = -100,
    **streaming: Unpack[Streaming],
) -> Array:
    """log-probability of each sequence: the sum, or the average, of log p over its tokens that count.

    Args:
        hidden: (..., T, D) torch tensor or NumPy array, see focal_loss.
        weight: (V, D), same dtype.
        targets: (..., T) int64; prompt and padding carry ignore_index.
        average: divide by the number of tokens that count, as ORPO and SimPO do; NaN where there are none.
        bias, ignore_index, streaming: see focal_loss.
    Returns:
        (...) float64 for float64 inputs, else float32; 0 for a sequence without a token that counts, if summed.
    Raises:
        ValueError: shapes do not fit. TypeError, IndexError: see row_statistics.
    """
    name = "sequence_log_prob"
    check_flag(name, "average", average)
    hidden, weight, targets = check_head(name, hidden, weight, targets, bias)
    rows = Rows(name, hidden, weight, targets, ("target", "lse"), bias=bias, ignore_index=ignore_index, reduction="none", **streaming)
    if targets.ndim < 1:
        raise ValueError(f"{name}: targets has shape (); expected (..., T)")
    sums = rows.reduce(rows.log_prob()).sum(-1)
    return sums / astype((targets != ignore_index).sum(-1), sums.dtype) if average else sums


@quiet
def dpo_loss(
    chosen: Array,
    rejected: Array,
    reference_chosen: Array,
    reference_rejected: Array,
    *,
    beta: float = 0.1,
    reduction: str = "mean",
) -> Array:
    """-log sigmoid(beta ((log pi_w - log ref_w) - (log pi_l - log ref_l))) of pairs of answers, w the chosen one.

    Args:
        chosen, rejected: (...) torch tensors or NumPy arrays of float16, float32, float64 or, of torch alone, bfloat16: summed
            log-probabilities under the policy.
        reference_chosen, reference_rejected: (...), under the reference; give them without gradient.
        beta: > 0.
        reduction: "mean", "sum" or "none".
    Returns:
        A scalar, or (...) for "none", in the dtype of the first argument.
    Raises:
        TypeError, ValueError: an argument is no array or number, arrays and tensors are mixed, shapes differ, beta is not positive, reduction is unknown.
    Source: Rafailov et al. 2023, Direct preference optimization (arXiv:2305.18290), eq. 7.
    """
    chosen, rejected, reference_chosen, reference_rejected = _pairs(
        "dpo_loss",
        beta,
        reduction,
        chosen=chosen,
        rejected=rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return reduce_losses(-log_sigmoid(beta * margin), None, reduction, chosen.dtype)


@quiet
def orpo_loss(chosen: Array, rejected: Array, *, beta: float = 0.1, reduction: str = "mean") -> Array:
    """-log P_w - beta log sigmoid(log odds_w - log odds_l), odds = P / (1 - P), P the geometric mean of an answer's token probabilities.

    Args:
        chosen, rejected: (...) float, average log-probabilities: sequence_log_prob(average=True).
        beta: > 0, the weight of the odds ratio; the paper's lambda.
        The others and what is returned and raised: see dpo_loss.
    Notes:
        P = 1 is read as just below 1, so that its odds are finite.
    Source: Hong, Lee and Thorne 2024, ORPO: monolithic preference optimization without reference model (arXiv:2403.07691).
    """
    chosen, rejected = _pairs("orpo_loss", beta, reduction, chosen=chosen, rejected=rejected)
    log_odds = (chosen - log1m_exp(chosen)) - (rejected - log1m_exp(rejected))
    return reduce_losses(-chosen - beta * log_sigmoid(log_odds), None, reduction, chosen.dtype)


@quiet
def simpo_loss(chosen: Array, rejected: Array, *, beta: float = 2.0, gamma: float = 0.5, reduction: str = "mean") -> Array:
    """-log sigmoid(beta (log pi_w / |w| - log pi_l / |l|) - gamma), no reference model.

    Args:
        chosen, rejected: (...) float, average log-probabilities: sequence_log_prob(average=True).
        beta: > 0.
        gamma: the margin that is asked for; any finite number.
        The others and what is returned and raised: see dpo_loss.
    Source: Meng, Xia and Chen 2024, SimPO (arXiv:2405.14734).
    """
    chosen, rejected = _pairs("simpo_loss", beta, reduction, chosen=chosen, rejected=rejected)
    check_number("simpo_loss", "gamma", gamma, "a finite number", lambda x: abs(x) < INFINITY)
    return reduce_losses(-log_sigmoid(beta * (chosen - rejected) - gamma), None, reduction, chosen.dtype)


@quiet
def npo_loss(log_prob: Array, reference: Array, *, beta: float = 0.1, reduction: str = "mean") -> Array:
    """(2/beta) log(1 + (pi / ref)^beta) of answers to be unlearnt.

    Args:
        log_prob, reference: (...) float, summed log-probabilities under the policy and the reference.
        beta: > 0; towards 0 the loss becomes gradient ascent.
        The others and what is returned and raised: see dpo_loss.
    Notes:
        Its gradient is 2 pi^beta / (pi^beta + ref^beta) times that of log pi.
    Source: Zhang et al. 2024, Negative preference optimization (arXiv:2404.05868); the authors' code agrees.
    """
    log_prob, reference = _pairs("npo_loss", beta, reduction, log_prob=log_prob, reference=reference)
    return reduce_losses(-2 / beta * log_sigmoid(-beta * (log_prob - reference)), None, reduction, log_prob.dtype)


@quiet
def simnpo_loss(log_prob: Array, *, beta: float = 2.5, gamma: float = 0.0, reduction: str = "mean") -> Array:
    """-(2/beta) log sigmoid(-beta log pi / |y| - gamma) of answers to be unlearnt, no reference model.

    Args:
        log_prob: (...) float, average log-probabilities: sequence_log_prob(average=True).
        beta: > 0.
        gamma: any finite number. The released code has it inside beta: give beta * gamma to get that.
        The others and what is returned and raised: see dpo_loss.
    Source: Fan et al. 2024, Simplicity prevails: rethinking negative preference optimization for LLM unlearning (arXiv:2410.07163).
    """
    (log_prob,) = _pairs("simnpo_loss", beta, reduction, log_prob=log_prob)
    check_number("simnpo_loss", "gamma", gamma, "a finite number", lambda x: abs(x) < INFINITY)
    return reduce_losses(-2 / beta * log_sigmoid(-beta * log_prob - gamma), None, reduction, log_prob.dtype)


@quiet
def kto_loss(
    log_prob: Array,
    reference: Array,
    desirable: Array,
    baseline: Any,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    reduction: str = "mean",
) -> Array:
    """weight (1 - sigmoid(+-beta (log pi - log ref - z0))), + for desirable answers and - for the others.

    Args:
        log_prob, reference: (...) float, summed log-probabilities under the policy and the reference.
        desirable: (...) bool.
        baseline: z0, the estimate of KL(policy || reference): a number, or an array without dimensions, taken without gradient, below 0 read as 0.
            The paper takes the mean of log pi - log ref over prompts with answers of other prompts.
        desirable_weight, undesirable_weight: > 0, the paper's lambda_D and lambda_U.
        The others and what is returned and raised: see dpo_loss.
    Source: Ethayarajh et al. 2024, KTO: model alignment as prospect theoretic optimization (arXiv:2402.01306), eq. 7.
    """
    name = "kto_loss"
    log_prob, reference = _pairs(name, beta, reduction, log_prob=log_prob, reference=reference)
    required(name, desirable=desirable)
    log_prob, desirable = taken(name, log_prob=log_prob, desirable=desirable)
    check_same_shape(name, "the first argument", log_prob.shape, desirable=desirable)
    if dtype_name(desirable) != "bool":
        raise TypeError(f"{name}: desirable is of {dtype_name(desirable)}; expected bool")
    for argument, value in (("desirable_weight", desirable_weight), ("undesirable_weight", undesirable_weight)):
        check_number(name, argument, value, "a positive number", lambda x: 0 < x < INFINITY)
    zero_point = library(log_prob).clip(number_like(name, "baseline", baseline, log_prob), 0, None)
    if zero_point.ndim != 0:
        raise ValueError(f"{name}: baseline has shape {tuple(zero_point.shape)}; expected a number")
    sign = astype(desirable, log_prob.dtype) * 2 - 1
    weights = library(sign).where(sign > 0, sign * desirable_weight, -sign * undesirable_weight)
    return reduce_losses(weights * sigmoid(-beta * sign * (log_prob - reference - zero_point)), None, reduction, log_prob.dtype)


def _pairs(name: str, beta: float, reduction: str, **given: Array) -> tuple[Any, ...]:
    """The log-probabilities, all of one shape and library."""
    check_reduction(name, reduction)
    check_number(name, "beta", beta, "a positive number", lambda x: 0 < x < INFINITY)
    arrays = floats(name, **given)
    check_same_shape(name, "the first argument", arrays[0].shape, **dict(zip(given, arrays)))
    return arrays
