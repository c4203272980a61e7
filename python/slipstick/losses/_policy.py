"""Policy gradients over a language-model head, with clipped ratios, a penalty towards a reference and an entropy bonus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._arrays import Array, astype, library, quiet, required, stop_gradient, taken
from ._rows import Rows, check_head, check_number, check_reduction, check_same_shape, reduce_losses

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming

POLICY_REDUCTIONS = ("sequence_mean", "mean", "sum", "none")


@quiet
def policy_gradient_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    advantages: Array,
    old_log_prob: Array | None = None,
    reference_log_prob: Array | None = None,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_coefficient: float = 0.0,
    entropy_coefficient: float = 0.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "sequence_mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """-min(r A, clip(r) A) + kl_coefficient KL - entropy_coefficient H of each token; r = e^(u - u_old), u = log p of the token taken.

    KL is the estimate e^(u_ref - u) - (u_ref - u) - 1 >= 0, H the entropy of the whole distribution, from the same pass.

    Args:
        hidden: (..., T, D) torch tensor or NumPy array, see focal_loss.
        weight: (V, D), same dtype.
        targets: (..., T) int64, the tokens taken; prompt and padding carry ignore_index.
        advantages: (...) one for each sequence, or (..., T) one for each token.
        old_log_prob: (..., T), u of the policy that took the tokens; None: this one, r = 1 with the gradient of u.
        reference_log_prob: (..., T); needed where kl_coefficient is not 0.
        clip_low, clip_high: r is clipped to [1 - clip_low, 1 + clip_high]; both at least 0, clip_high may be infinite.
        kl_coefficient, entropy_coefficient: finite numbers; the second > 0 rewards entropy.
        reduction: "sequence_mean": mean over a sequence's tokens, then over the sequences with a token that counts, as GRPO; "mean" over
            all tokens, as DAPO; "sum"; "none" with 0 where a token does not count.
        bias, ignore_index, streaming: see focal_loss.
    Returns:
        A scalar, or (..., T) for "none". No gradient goes to advantages, old_log_prob and reference_log_prob.
    Raises:
        ValueError: shapes do not fit, a number is out of range, reference_log_prob is missing. TypeError, IndexError: see row_statistics.
    Source: Schulman et al. 2017, Proximal policy optimization (arXiv:1707.06347), eq. 7; Shao et al. 2024, DeepSeekMath
        (arXiv:2402.03300), eqs. 3 and 4; Yu et al. 2025, DAPO (arXiv:2503.14476) for clip_high and the mean over tokens.
    """
    name = "policy_gradient_loss"
    check_reduction(name, reduction, POLICY_REDUCTIONS)
    check_number(name, "clip_low", clip_low, "a number of at least 0", lambda x: x >= 0)
    check_number(name, "clip_high", clip_high, "a number of at least 0", lambda x: x >= 0)
    for argument, value in (("kl_coefficient", kl_coefficient), ("entropy_coefficient", entropy_coefficient)):
        check_number(name, argument, value, "a finite number", lambda x: abs(x) < float("inf"))
    if kl_coefficient != 0 and reference_log_prob is None:
        raise ValueError(f"{name}: reference_log_prob is None; expected a tensor, for kl_coefficient is {kl_coefficient}")
    required(name, targets=targets, advantages=advantages)
    want = ("target", "lse", "entropy") if entropy_coefficient != 0 else ("target", "lse")
    hidden, weight, targets = check_head(name, hidden, weight, targets, bias)
    hidden, advantages, old_log_prob, reference_log_prob = taken(
        name, hidden=hidden, advantages=advantages, old_log_prob=old_log_prob, reference_log_prob=reference_log_prob
    )
    rows = Rows(name, hidden, weight, targets, want, bias=bias, ignore_index=ignore_index, reduction="none", **streaming)
    check_same_shape(name, "targets", targets.shape, old_log_prob=old_log_prob, reference_log_prob=reference_log_prob)
    if advantages.shape == targets.shape[:-1] and targets.ndim >= 1:
        advantages = advantages[..., None]
    elif advantages.shape != targets.shape:
        shapes = f"{tuple(targets.shape)} or {tuple(targets.shape[:-1])}"
        raise ValueError(f"{name}: advantages has shape {tuple(advantages.shape)}; expected {shapes}")

    xp, counts = library(targets), targets != ignore_index
    log_prob = rows.log_prob().reshape(targets.shape)
    gain = astype(stop_gradient(advantages), log_prob.dtype)
    now = stop_gradient(log_prob)
    before = now if old_log_prob is None else xp.where(counts, stop_gradient(old_log_prob), now)
    ratio = xp.exp(log_prob - before)
    losses = -xp.minimum(ratio * gain, xp.clip(ratio, 1 - clip_low, 1 + clip_high) * gain)
    if kl_coefficient != 0 and reference_log_prob is not None:
        behind = xp.where(counts, stop_gradient(reference_log_prob), now) - log_prob
        losses = losses + kl_coefficient * (xp.expm1(behind) - behind)
    if entropy_coefficient != 0:
        losses = losses - entropy_coefficient * rows.of("entropy").reshape(targets.shape)
    if reduction != "sequence_mean":
        return reduce_losses(losses, counts, reduction, rows.dtype)
    lengths = counts.sum(-1)
    means = xp.where(counts, losses, 0.0).sum(-1) / xp.clip(lengths, 1, None)
    return reduce_losses(means, lengths > 0, "mean", rows.dtype)
