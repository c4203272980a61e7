"""Samples weighted by their own loss: the losses of a batch decide, without gradient, how much each of them counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._arrays import Array, astype, floats, library, quiet, required, softmax, stop_gradient
from ._head import call_as
from ._preference import sequence_log_prob
from ._rows import check_choice, check_head, check_number

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming

SHAPES = ("linupper", "quadratic", "extremes")
LEAST_SPREAD = 1e-6  # of the losses of a batch; below it they count as equal


@quiet
def loss_based_weights(losses: Array, *, shape: str = "linupper", delta: float = 1.0, temperature: float = 1.0) -> Array:
    """softmax(f(h) / temperature), h = delta (2 l - l_max - l_min) / (l_max - l_min) the losses mapped to [-delta, delta].

    Args:
        losses: (B,) torch tensor or NumPy array of float16, float32, float64 or, of torch alone, bfloat16: one for each sample of the global batch.
        shape: f. "linupper": min(h + delta, delta), low losses count less. "quadratic": 1 - h^2 / delta^2, both ends count less.
            "extremes": |h|, both ends count more.
        delta, temperature: > 0.
    Returns:
        (B,), positive, of sum 1, without gradient; equal weights where all losses are.
    Raises:
        TypeError, ValueError: losses is not (B,), a number is none or out of range, shape is unknown.
    Source: Sow et al. 2025, Dynamic loss-based sample reweighting for improved large language model pretraining (arXiv:2502.06733).
    """
    name = "loss_based_weights"
    check_choice(name, "shape", shape, SHAPES)
    check_number(name, "delta", delta, "a positive number", lambda x: 0 < x < float("inf"))
    check_number(name, "temperature", temperature, "a positive number", lambda x: 0 < x < float("inf"))
    (losses,) = floats(name, losses=losses)
    if losses.ndim != 1:
        raise ValueError(f"{name}: losses has shape {tuple(losses.shape)}; expected (B,)")
    losses, xp = stop_gradient(losses), library(losses)
    if losses.shape[0] == 0:
        return xp.zeros_like(losses)
    most, least = losses.max(), losses.min()
    mapped = delta * (2 * losses - most - least) / xp.clip(most - least, LEAST_SPREAD, None)
    if shape == "linupper":
        shaped = xp.clip(mapped + delta, None, delta)
    elif shape == "quadratic":
        shaped = 1 - mapped**2 / delta**2
    else:
        shaped = abs(mapped)
    return astype(softmax(shaped / temperature, 0), losses.dtype)


@quiet
def reweighted_cross_entropy(
    hidden: Array,
    weight: Array,
    targets: Array,
    *,
    shape: str = "linupper",
    delta: float = 1.0,
    temperature: float = 1.0,
    bias: Array | None = None,
    ignore_index: int = -100,
    **streaming: Unpack[Streaming],
) -> Array:
    """sum over sequences of w l, l a sequence's mean cross-entropy over its tokens that count and w = loss_based_weights(l).

    Args:
        hidden: (B, T, D) torch tensor or NumPy array, see focal_loss.
        weight: (V, D), same dtype.
        targets: (B, T) int64; padding carries ignore_index. Sequences without a token that counts take no part.
        shape, delta, temperature: see loss_based_weights.
        bias, ignore_index, streaming: see focal_loss.
    Returns:
        A scalar; 0 where no token counts.
    Raises:
        ValueError: targets is not (B, T), else as loss_based_weights and sequence_log_prob.
    Notes:
        Where a batch is spread over processes, gather the losses, weigh them with loss_based_weights and multiply by your own here.
    Source: Sow et al. 2025 (arXiv:2502.06733).
    """
    name = "reweighted_cross_entropy"
    required(name, targets=targets)
    hidden, weight, targets = check_head(name, hidden, weight, targets, bias)
    if targets.ndim != 2:
        raise ValueError(f"{name}: targets has shape {tuple(targets.shape)}; expected (B, T)")
    own = "sequence_log_prob"
    sums = -call_as(name, own, sequence_log_prob, hidden, weight, targets, bias=bias, ignore_index=ignore_index, **streaming)
    lengths = (targets != ignore_index).sum(1)
    losses = sums[lengths > 0] / astype(lengths[lengths > 0], sums.dtype)
    weights = call_as(name, "loss_based_weights", loss_based_weights, losses, shape=shape, delta=delta, temperature=temperature)
    return (weights * losses).sum()
