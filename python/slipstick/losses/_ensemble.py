"""EnsLoss: another random calibrated loss at every step, given by its derivative at the margins of the batch."""

from __future__ import annotations

import math
from typing import Any

from slipstick import _core

from ._arrays import Array, astype, beside, floats, in_order, library, order_of, quiet, stop_gradient
from ._rows import check_number, check_reduction, reduce_losses

PURPOSE = 0x456E734C  # "EnsL": this use of a seed has its own random stream
BLOCKS_A_STEP = 1 << 32  # so that steps of up to 2^34 margins share no random numbers


@quiet
def ens_loss(margins: Array, *, seed: int, step: int, exponent: float = 0.0, reduction: str = "mean") -> Array:
    """Random derivative times margin: its gradient at each margin is that of a random convex calibrated loss, drawn for this step.

    Standard normals n are drawn, r = max(-B(n), -1) with B(x) = e^x for exponent 0, else max(1 + exponent x, 0)^(1/exponent), the inverse
    Box-Cox transform; the i-th smallest r goes to the i-th smallest margin; r is divided by margins above 1; 1e-6 is subtracted; the
    losses are r m, r without gradient.

    Args:
        margins: (...) torch tensor or NumPy array of float16, float32, float64 or, of torch alone, bfloat16: y f of a binary classifier f
            and labels y of -1 or 1; for a head of two classes z_y - z_other.
        seed: 0 to 2^64 - 1.
        step: 0 to 2^32 - 1; every step draws another loss, and the same seed and step the same one.
        exponent: any finite number; the paper's code redraws it from U(-1, 1) or U(0, 1) every few epochs.
        reduction: "mean", "sum" or "none".
    Returns:
        A scalar, or (...) for "none". Its value says nothing; only the gradient does: that of the sum is the value of "none" over
        the margins.
    Raises:
        TypeError, ValueError: a number is none or out of range, reduction is unknown.
    Notes:
        Defined for two classes. The draw depends on seed, step and the number of margins alone. Equal margins take derivatives in the
        order of their places. A NaN margin gives NaN.
    Source: Dai 2024, EnsLoss: stochastic calibrated loss ensembles for preventing overfitting (arXiv:2409.00908), and its code.
    """
    check_reduction("ens_loss", reduction)
    check_number("ens_loss", "seed", seed, "0 to 2^64 - 1", lambda x: isinstance(x, int) and 0 <= x < 1 << 64)
    check_number("ens_loss", "step", step, "0 to 2^32 - 1", lambda x: isinstance(x, int) and 0 <= x < 1 << 32)
    check_number("ens_loss", "exponent", exponent, "a finite number", lambda x: abs(x) < math.inf)
    (margins,) = floats("ens_loss", margins=margins)
    xp = library(margins)
    flat = stop_gradient(margins).reshape(-1)
    normals = beside(_normals(seed, step, flat.shape[0], xp), flat)
    box_cox = xp.exp(normals) if exponent == 0 else xp.clip(1 + exponent * normals, 0, None) ** (1 / exponent)
    derivatives = xp.empty_like(flat)
    derivatives[order_of(flat)] = astype(in_order(xp.clip(-box_cox, -1, None)), flat.dtype)
    derivatives = xp.where(flat > 1, derivatives / xp.where(flat > 1, flat, 1.0), derivatives) - 1e-6
    return reduce_losses(derivatives.reshape(margins.shape) * margins, None, reduction, margins.dtype)


def _normals(seed: int, step: int, count: int, xp: Any) -> Array:
    """Standard normals (count,) float64 by Box and Muller, two from two words of the house's counter-based stream."""
    blocks = -(-count // 4)
    words = xp.frombuffer(bytearray(_core.random_bytes(seed, PURPOSE, step * BLOCKS_A_STEP, blocks)) or bytearray(16), dtype=xp.int32)
    uniform = (astype(astype(words[: 4 * blocks], xp.int64) & 0xFFFFFFFF, xp.float64) + 0.5) / (1 << 32)
    radius = xp.sqrt(-2 * xp.log(uniform[0::2]))
    angle = 2 * math.pi * uniform[1::2]
    return xp.stack([radius * xp.cos(angle), radius * xp.sin(angle)], 1).reshape(-1)[:count]
