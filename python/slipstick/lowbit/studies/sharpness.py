"""Sharpness of the loss over the logits, in closed form.

"To FP8 and Back Again" (Lee et al. 2024, arXiv 2405.18710) watches how sharp the loss is around the logits of the last token, which rises
before training diverges. The measure is that of Keskar et al. (2017, arXiv 1609.04836, metric 2.1), with logits x in the place of weights:

    100 (max over |y_i| <= epsilon (|x_i| + 1) of f(x + y) - f(x)) / (1 + f(x))

Where f is the cross-entropy of a target, no search is needed: f falls with the logit of the target and rises with every other one, so
the maximum is at one corner of the box, and costs one more log-sum-exp.

>>> round(float(logit_sharpness([2.0, 0.0, -1.0], 0)), 5)
0.05711
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["cross_entropy", "logit_sharpness"]


def logit_sharpness(logits: ArrayLike, targets: ArrayLike, *, epsilon: float = 1e-3, reduction: str = "none") -> Any:
    """Keskar's sharpness of the cross-entropy as a function of the logits; exact, without a search.

    Args:
        logits: (..., classes), any real dtype; those of the last token of each sequence in the paper. Array or torch tensor.
        targets: (...) whole numbers from 0 to classes - 1. Array or torch tensor.
        epsilon: size of the box, at least 0; the default is that of Keskar's tables and not known to be the paper's.
        reduction: "none" gives the sharpness of every row. "mean" gives the sharpness of the mean cross-entropy: since every row has its
            own box, the maximum of the mean is the mean of the maxima.
    Returns:
        float64 array of the shape of targets, or a float for "mean"; at least 0.
    Raises:
        TypeError: logits or targets of another kind.
        ValueError: shapes do not match, a target is out of range, epsilon is negative, there are no classes, or no rows for "mean".
    Notes:
        Computed in float64; relative error below 1e-12 (or absolute below 1e-300) while logits are within +-1000. A logit of -inf is a class that is left out, and stays so.
        A row with NaN, +inf, or -inf at its target gives NaN.

    >>> logit_sharpness([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]], [0, 2]).round(4)
    array([0.0571, 0.0636])
    >>> round(logit_sharpness([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]], [0, 2], reduction="mean"), 4)
    0.0612
    """
    where = "logit_sharpness"
    rows, chosen, shape = _rows(where, logits, targets)
    epsilon = _checks.real(where, "epsilon", epsilon, least=0)
    if reduction not in ("none", "mean"):
        raise ValueError(f"{where}: reduction is {reduction!r}; expected 'none' or 'mean'")
    if reduction == "mean" and len(rows) == 0:
        raise ValueError(f"{where}: there are no rows; expected at least one for the mean")
    loss, rise = np.empty(len(rows)), np.empty(len(rows))
    for block in _blocks(rows):
        part = rows[block].astype(np.float64)
        loss[block], rise[block] = _losses(part, chosen[block]), _largest_rise(part, chosen[block], epsilon)
    if reduction == "mean":
        return float(100 * rise.mean() / (1 + loss.mean()))
    return (100 * rise / (1 + loss)).reshape(shape)[()]


def cross_entropy(logits: ArrayLike, targets: ArrayLike) -> Any:
    """Negative log-likelihood of the target of every row, in nats: the f of `logit_sharpness`.

    Args, Raises:
        As of `logit_sharpness`.
    Returns:
        float64 array of the shape of targets. NaN where a row holds NaN or +inf; infinity where the target's logit is -inf. Error as there.

    >>> cross_entropy([[2.0, 0.0, -1.0]], [0]).round(6)
    array([0.169846])
    """
    rows, chosen, shape = _rows("cross_entropy", logits, targets)
    loss = np.empty(len(rows))
    for block in _blocks(rows):
        loss[block] = _losses(rows[block].astype(np.float64), chosen[block])
    return loss.reshape(shape)[()]


def _blocks(rows: NDArray[Any]) -> Iterator[slice]:
    """Slices of rows that are small enough for a dozen copies in float64 to stay in the megabytes."""
    step = max(1, 2**18 // rows.shape[1])
    return (slice(start, start + step) for start in range(0, len(rows), step))


def _rows(where: str, logits: ArrayLike, targets: ArrayLike) -> tuple[NDArray[Any], NDArray[np.intp], tuple[int, ...]]:
    values = _checks.numpy_of(logits)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{where}: logits has dtype {values.dtype}; expected real numbers")
    chosen = _checks.numpy_of(targets)
    if chosen.dtype.kind not in "iu":
        raise TypeError(f"{where}: targets has dtype {chosen.dtype}; expected whole numbers")
    if values.ndim < 1 or values.shape[-1] == 0:
        raise ValueError(f"{where}: logits has shape {values.shape}; expected (..., classes) with at least one class")
    if values.shape[:-1] != chosen.shape:
        raise ValueError(f"{where}: targets has shape {chosen.shape}; expected {values.shape[:-1]}, as logits has {values.shape}")
    classes = values.shape[-1]
    if chosen.size and not (int(chosen.min()) >= 0 and int(chosen.max()) < classes):
        raise ValueError(f"{where}: targets holds {chosen.min()} to {chosen.max()}; expected 0 to {classes - 1}")
    return values.reshape(-1, classes), chosen.reshape(-1).astype(np.intp), chosen.shape


def _losses(rows: NDArray[np.float64], chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    lines = np.arange(len(rows))
    with np.errstate(invalid="ignore"):
        differences = rows - rows[lines, chosen][:, None]
        differences[lines, chosen] = -np.inf  # the target's own term is the 1 of log1p
        top = np.maximum(differences.max(axis=1), 0)
        others = np.exp(differences - top[:, None]).sum(axis=1)
        loss = np.where(top == 0, np.log1p(others), top + np.log(np.exp(-top) + others))
    loss[np.isneginf(rows[lines, chosen])] = np.inf
    loss[np.isnan(rows).any(axis=1) | np.isposinf(rows).any(axis=1)] = np.nan
    return loss


def _largest_rise(rows: NDArray[np.float64], chosen: NDArray[np.intp], epsilon: float) -> NDArray[np.float64]:
    """max f(x + y) - f(x) = log(1 + sum over j != target of p_j (exp(y_j - y_target) - 1)), p = softmax(x): no term is negative."""
    lines = np.arange(len(rows))
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        shifted = rows - rows.max(axis=1)[:, None]
        p = np.exp(shifted)
        total = p.sum(axis=1)[:, None]
        p /= total
        step = epsilon * (np.abs(rows) + 1)
        growth = step + step[lines, chosen][:, None]
        growth[lines, chosen] = 0
        growth[np.isneginf(rows)] = 0
        terms = p * np.expm1(growth)
        far = growth > 1
        if far.any():  # the exponents can cancel, and p be too small for float64
            moved = shifted - np.log(total) + growth
            terms[far] = np.exp(moved[far]) - p[far]
        rise = np.log1p(terms.sum(axis=1))
        if far.any():
            high = moved.max(axis=1)
            rise = np.where(high < 700, rise, high + np.log(np.exp(moved - high[:, None]).sum(axis=1)))
    rise[np.isneginf(rows[lines, chosen]) | np.isnan(rows).any(axis=1) | np.isposinf(rows).any(axis=1)] = np.nan
    return rise
