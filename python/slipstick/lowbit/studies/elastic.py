"""The losses that train one network for many bit widths: EQ-Net (Xu et al. 2023, arXiv 2308.07650, ICCV 2023), as in its released code.

Weight distribution regularization pulls the weights of every layer toward a uniform law, which is symmetric (skewness 0) and has kurtosis
1.8, so that they quantize alike at any width. Group progressive guidance teaches the subnets of a step from the highest bit width down.

>>> round(weight_distribution_loss([np.linspace(-1, 1, 10001)] * 3), 6)  # uniform weights
0.0
>>> [round(value, 4) for value in guidance_losses([[2.0, 0, -1]], [[2.0, 0, -1]], [[1.0, 0, 0]], [0])]
[0.1698, 0.0849, 0.3674]

Everything takes NumPy arrays and gives floats, or takes torch tensors and gives tensors with gradients; torch is imported only by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _checks

__all__ = ["UNIFORM_KURTOSIS", "guidance_losses", "skewness_and_kurtosis", "weight_distribution_loss"]

UNIFORM_KURTOSIS = 1.8
"""Kurtosis of a uniform law, exact."""


def skewness_and_kurtosis(weights: Any) -> tuple[Any, Any]:
    """Mean of ((w - mean) / deviation)^3 and ^4 of all elements, with the deviation of samples (n - 1), as in the released code.

    Args:
        weights: array or torch tensor of floating-point numbers with at least two elements, any shape.
    Returns:
        (skewness, kurtosis): two floats, or two 0-dimensional tensors of the dtype of weights, through which gradients flow. NaN where all
        elements are equal or one is not finite.
    Raises:
        TypeError: weights holds no real numbers.
        ValueError: fewer than two elements.
    Notes:
        Arrays are computed in float64, tensors in their own dtype.

    >>> skewness, kurtosis = skewness_and_kurtosis([0.0, 0.0, 0.0, 1.0])
    >>> round(skewness, 4), round(kurtosis, 4)
    (0.75, 1.3125)
    """
    where = "skewness_and_kurtosis"
    if _checks.is_torch(weights):
        if not weights.is_floating_point():
            raise TypeError(f"{where}: weights has dtype {weights.dtype}; expected a floating-point tensor")
        _at_least_two(where, weights.numel())
        scaled = (weights - weights.mean()) / weights.std()
        return (scaled**3).mean(), (scaled**4).mean()
    w = _checks.array(where, "weights", weights, finite=False)
    _at_least_two(where, w.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = (w - w.mean()) / w.std(ddof=1)
        return float(np.mean(scaled**3)), float(np.mean(scaled**4))


def _at_least_two(where: str, count: int) -> None:
    if count < 2:
        raise ValueError(f"{where}: weights has {count} elements; expected at least 2")


def weight_distribution_loss(
    weights: Sequence[Any],
    *,
    skewness_weight: float = 1.0,
    kurtosis_weight: float = 0.015,
    target_kurtosis: float = UNIFORM_KURTOSIS,
    skip_first: bool = True,
) -> Any:
    """Weight distribution regularization: the mean over layers of skewness^2 and of (kurtosis - 1.8)^2, weighted.

    Args:
        weights: the weights of the quantized layers in order, arrays or torch tensors.
        skewness_weight, kurtosis_weight: at least 0; the defaults are those of the released code, both 1 in the paper.
        target_kurtosis: of the law to pull toward.
        skip_first: leaves out the first layer, as the released code does.
    Returns:
        float, or a 0-dimensional tensor; NaN if a layer's moments are.
    Raises:
        TypeError, ValueError: as in `skewness_and_kurtosis`; or no layer is left.

    >>> spiky = np.array([-1.0] + [0.0] * 98 + [1.0])
    >>> weight_distribution_loss([spiky, spiky]) > 30
    True
    """
    where = "weight_distribution_loss"
    layers = list(weights)[1 if skip_first else 0 :]
    if not layers:
        raise ValueError(
            f"{where}: weights has {len(weights)} layers; expected at least {2 if skip_first else 1} as skip_first is {skip_first}"
        )
    for_skewness = _checks.real(where, "skewness_weight", skewness_weight, least=0)
    for_kurtosis = _checks.real(where, "kurtosis_weight", kurtosis_weight, least=0)
    target = _checks.real(where, "target_kurtosis", target_kurtosis)
    total: Any = 0.0
    for layer in layers:
        skewness, kurtosis = skewness_and_kurtosis(layer)
        total = total + for_skewness * skewness**2 + for_kurtosis * (kurtosis - target) ** 2
    return total / len(layers)


def guidance_losses(highest: Any, random: Any, lowest: Any, targets: Any, *, guidance: float = 0.5) -> tuple[Any, Any, Any]:
    """Group progressive guidance: the losses of the subnets of highest, random and lowest bit width, to be summed.

    Highest: CE(highest). Random: guidance KL(highest || random) + (1 - guidance) CE(random). Lowest: the same against the random one.

    Args:
        highest, random, lowest: (rows, classes) logits of the three subnets, arrays or torch tensors.
        targets: (rows,) class numbers.
        guidance: from 0 to 1; 0.5 in the released code.
    Returns:
        Three floats or 0-dimensional tensors, means over rows. The guiding side of each KL is a constant: no gradient flows through it.
    Raises:
        TypeError, ValueError: shapes differ, there are no rows, a target is out of range, or arrays are mixed with tensors.
    Notes:
        The released code adds gradients of the three backward passes, which is the gradient of the sum.

    >>> guidance_losses([[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]], [1], guidance=1.0)[1:]  # equal logits: nothing to learn from each other
    (0.0, 0.0)
    """
    where = "guidance_losses"
    share = _checks.real(where, "guidance", guidance, least=0, most=1)
    tensors = [_checks.is_torch(logits) for logits in (highest, random, lowest)]
    if any(tensors) and not all(tensors):
        raise TypeError(f"{where}: some logits are torch tensors and some are not; expected all of one kind")
    subnets = (
        _torch_subnets(where, (highest, random, lowest), targets) if all(tensors) else _arrays(where, (highest, random, lowest), targets)
    )
    losses = []
    guide: Any = None
    for log_p, entropy in subnets:
        if guide is None:
            losses.append(entropy)
        else:
            divergence = (guide[1] * (guide[0] - log_p)).sum(-1).mean()
            losses.append(share * divergence + (1 - share) * entropy)
        constant = log_p.detach() if all(tensors) else log_p
        guide = constant, constant.exp() if all(tensors) else np.exp(constant)
    high, middle, low = losses
    return (high, middle, low) if all(tensors) else (float(high), float(middle), float(low))


def _shapes(where: str, shapes: list[tuple[int, ...]], targets: tuple[int, ...]) -> None:
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ValueError(f"{where}: logits have shapes {shapes}; expected three times the same (rows, classes), neither 0")
    if targets != shapes[0][:1]:
        raise ValueError(f"{where}: targets has shape {targets}; expected {shapes[0][:1]}")


def _range(where: str, low: int, high: int, classes: int) -> None:
    if low < 0 or high >= classes:
        raise ValueError(f"{where}: targets holds {low} to {high}; expected 0 to {classes - 1}")


def _arrays(where: str, given: tuple[Any, ...], targets: Any) -> list[tuple[Any, Any]]:
    logits = [_checks.array(where, "logits", values) for values in given]
    chosen = np.asarray(targets)
    if chosen.dtype.kind not in "iu":
        raise TypeError(f"{where}: targets has dtype {chosen.dtype}; expected whole numbers")
    _shapes(where, [values.shape for values in logits], chosen.shape)
    _range(where, int(chosen.min()), int(chosen.max()), logits[0].shape[1])
    result = []
    for values in logits:
        shifted = values - values.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        result.append((log_p, -log_p[np.arange(len(chosen)), chosen].mean()))
    return result


def _torch_subnets(where: str, logits: tuple[Any, ...], targets: Any) -> list[tuple[Any, Any]]:
    if not _checks.is_torch(targets) or targets.is_floating_point():
        raise TypeError(
            f"{where}: targets is {type(targets).__name__}; expected a torch tensor of class numbers, as the logits are tensors"
        )
    _shapes(where, [tuple(values.shape) for values in logits], tuple(targets.shape))
    _range(where, int(targets.min()), int(targets.max()), logits[0].shape[1])
    chosen = targets.long()[:, None]
    log_ps = [values.log_softmax(-1) for values in logits]
    return [(log_p, -log_p.gather(1, chosen).mean()) for log_p in log_ps]
