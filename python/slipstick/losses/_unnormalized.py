"""Maximum likelihood of a model without its normaliser: the partition function is estimated from sampled classes."""

from __future__ import annotations

import math

from slipstick._arguments import int64

from ._arrays import Array, astype, dtype_name, library, linear, logsumexp, quiet, required, stop_gradient, taken, where, whole_numbers
from ._gathered_logits import gathered_logits
from ._labels import check_labels
from ._rows import check_head, check_number, check_reduction, reduce_losses


@quiet
def compositional_likelihood_loss(
    hidden: Array,
    weight: Array,
    targets: Array,
    samples: Array,
    sample_log_prob: Array,
    running: Array | None = None,
    *,
    momentum: float = 0.1,
    bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[Array, Array]:
    """-z_y + log u, u a moving average of (1/k) sum over sampled j of e^(z_j) / q_j, whose expectation is the partition function.

    u = (1 - momentum) u_old + momentum (the batch's average), or that average where there is no u_old. The gradient of log u is the
    gradient of the batch's average divided by u: the composition of log and expectation, not the biased log of a small sample.

    Args:
        hidden: (..., D) torch tensor or NumPy array, see focal_loss.
        weight: (V, D), same dtype.
        targets: (...) int64 labels.
        samples: (k,) int64, classes drawn from the noise distribution q, with replacement.
        sample_log_prob: (k,), log q of each.
        running: (...) log u_old of each row, -inf where there is none yet; None: of no row.
        momentum: above 0, at most 1.
        bias, ignore_index, reduction: see focal_loss.
    Returns:
        The loss, and log u (...) without gradient, to be given as `running` at the row's next visit; ignored rows keep theirs.
    Raises:
        ValueError: shapes do not fit, a number is out of range. TypeError: targets is not int64, arrays and tensors are mixed. IndexError: a class is out of range.
    Notes:
        O(N k D) work, none over the vocabulary. The value is -z_y + log u; its derivative is that of the batch's average over u.
    Source: Jiang et al. 2023, Learning unnormalized statistical models via compositional optimization (MECO, arXiv:2306.07485). The
        objective is the paper's; the moving average is the plain one, read from its abstract.
    """
    name = "compositional_likelihood_loss"
    check_reduction(name, reduction)
    required(name, targets=targets, samples=samples, sample_log_prob=sample_log_prob)
    ignore_index = int64(name, "ignore_index", ignore_index)
    hidden, weight, targets = check_head(name, hidden, weight, targets, bias)
    _, bias, samples, sample_log_prob, running = taken(
        name, hidden=hidden, bias=bias, samples=samples, sample_log_prob=sample_log_prob, running=running
    )
    xp, samples = library(hidden), whole_numbers(name, "samples", samples)
    check_number(name, "momentum", momentum, "a number above 0 and at most 1", lambda x: 0 < x <= 1)
    if dtype_name(samples) != "int64" or samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"{name}: samples is {dtype_name(samples)} of shape {tuple(samples.shape)}; expected int64 of (k,), k >= 1")
    if sample_log_prob.shape != samples.shape:
        raise ValueError(f"{name}: sample_log_prob has shape {tuple(sample_log_prob.shape)}; expected {tuple(samples.shape)}")
    if running is not None and running.shape != targets.shape:
        raise ValueError(f"{name}: running has shape {tuple(running.shape)}; expected that of targets, {tuple(targets.shape)}")
    classes = weight.shape[0]
    samples = xp.where(check_labels(name, samples, classes, None, "samples"), samples, 0)
    counts = check_labels(name, targets, classes, ignore_index)

    flat = where(counts.reshape(-1, 1), hidden.reshape(-1, hidden.shape[-1]))
    labels = xp.where(counts, targets, 0).reshape(-1, 1)
    label_logits = gathered_logits(name, flat, weight, bias, labels)[:, 0].reshape(targets.shape)
    dtype = label_logits.dtype
    sampled = linear(astype(flat, dtype), astype(weight[samples], dtype), None if bias is None else astype(bias[samples], dtype))
    batch = (logsumexp(sampled - astype(stop_gradient(sample_log_prob), dtype), 1) - math.log(len(samples))).reshape(targets.shape)
    now = stop_gradient(batch)
    if running is None:
        average, kept = now, xp.full_like(now, -math.inf)
    else:
        kept = astype(stop_gradient(running), dtype)
        mixed = xp.logaddexp(kept + math.log1p(-momentum), now + math.log(momentum)) if momentum < 1 else now
        average = xp.where(kept == -math.inf, now, mixed)
    losses = xp.exp(now - average) * (batch - now) + average - label_logits  # the first term is 0 and carries the gradient
    return reduce_losses(losses, counts, reduction, dtype), xp.where(counts, average, kept)
