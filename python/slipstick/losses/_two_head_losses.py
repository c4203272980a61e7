"""Two heads over the same rows and classes, as the losses of both take them: tensors, or NumPy arrays for values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from slipstick._arguments import int64, is_torch

from . import _head
from ._arrays import Array, as_autocast, astype, has_tensor, library, promoted, wide
from ._labels import check_labels
from ._numpy import TwoNumpyHeads, compute_two_heads
from ._rows import check_head, check_number, check_reduction, reduce_losses


class Head(NamedTuple):
    """A linear head and its rows of input: (..., D), (V, D), (V,) or None."""

    hidden: Array
    weight: Array
    bias: Array | None


def two_heads(name: str, first: Head, second: Head, names: tuple[str, str], **options: Any) -> Any:
    """Heads of tensors, see TwoHeads in _two_heads.py, or of arrays, which have the same methods. names: of the second's hidden and weight."""
    if not has_tensor(*first, *second, options["targets"]):
        return _TwoHeadsOfArrays(name, first, second, names, **options)
    from ._two_heads import TwoHeads

    return TwoHeads(name, first, second, names, **options)


def check_two_heads(name: str, first: Head, second: Head, names: tuple[str, str], targets: Array | None) -> tuple[Head, Head, Array]:
    """Both heads and the targets, see check_head. Raises where their shapes do not fit."""
    tensor = next((x for x in (*first, *second, targets) if is_torch(x)), None)
    hidden, weight, targets = check_head(name, first.hidden, first.weight, targets, tensor)
    second_hidden, second_weight, _ = check_head(name, second.hidden, second.weight, None, tensor, names)
    if second_hidden.shape[:-1] != hidden.shape[:-1]:
        raise ValueError(f"{name}: {names[0]} has rows of shape {tuple(second_hidden.shape[:-1])}; expected {tuple(hidden.shape[:-1])}")
    if second_weight.shape[0] != weight.shape[0]:
        raise ValueError(f"{name}: {names[1]} has {second_weight.shape[0]} classes; expected {weight.shape[0]}, as weight has")
    return Head(hidden, weight, first.bias), Head(second_hidden, second_weight, second.bias), targets


def check_map(name: str, softcap: Any, scale: Any) -> tuple[float, float]:
    """The cap of the logits of both heads, 0 for none, and their factor."""
    cap = 0.0 if softcap is None else _head.number(name, "softcap", softcap)
    check_number(name, "softcap", cap, "a positive number or None", lambda x: softcap is None or 0 < x < math.inf)
    factor = _head.number(name, "scale", scale)
    check_number(name, "scale", factor, "a finite number", lambda x: abs(x) < math.inf)
    return cap, factor


def same_precision(*heads: Head) -> list[Head]:
    """Flat rows; hidden and weight of a head of one type, and float64 in both heads or in none."""
    flat = []
    for hidden, weight, bias in heads:
        hidden, weight = as_autocast(hidden, weight)
        kind = promoted(hidden, weight)
        flat.append(Head(astype(hidden.reshape(-1, hidden.shape[-1]), kind), astype(weight, kind), bias))
    double = library(flat[0].hidden).float64
    if any(head.hidden.dtype == double for head in flat):
        flat = [Head(astype(head.hidden, double), astype(head.weight, double), head.bias) for head in flat]
    return flat


class _TwoHeadsOfArrays:
    """Two heads of NumPy arrays, checked; each method is a pass over both weights."""

    def __init__(
        self,
        name: str,
        first: Head,
        second: Head,
        names: tuple[str, str],
        *,
        targets: Any,
        ignore_index: int,
        reduction: str,
        softcap: float | None,
        scale: float,
        workspace: int | None,
        temperature: float = 1.0,
    ) -> None:
        check_reduction(name, reduction)
        ignore_index = int64(name, "ignore_index", ignore_index)
        first, second, targets = check_two_heads(name, first, second, names, targets)
        cap, factor = check_map(name, softcap, scale)
        self.shape, self.reduction = first.hidden.shape[:-1], reduction
        self.counts = None if targets is None else check_labels(name, targets, first.weight.shape[0], ignore_index)
        first, second = same_precision(first, second)
        self.dtype = wide(first.hidden)
        self._targets = None if targets is None else targets.reshape(-1)
        self._heads = first, second
        self._name = name
        self._options: dict[str, Any] = {
            "names": names,
            "softcap": None if softcap is None else cap / temperature,
            "scale": factor / temperature,
            "ignore_index": ignore_index,
            "workspace": workspace,
            "threads": 0,
        }

    def divergence(self, kind: str, mixture: float) -> tuple[Any, ...]:
        return tuple(self._compute(kinds=[kind], mixture=mixture).divergences[kind])

    def combined(self, coefficient: float, threshold: float | None, kept_share: float) -> tuple[Any, Any]:
        found = self._compute(combined=True, coefficient=coefficient, threshold=threshold, kept_share=kept_share)
        return found.combined_target, found.combined_lse

    def _compute(self, **wanted: Any) -> TwoNumpyHeads:
        nothing = {"kinds": [], "mixture": 0.5, "combined": False, "coefficient": 0.0, "threshold": None, "kept_share": 0.0}
        options: Any = {**nothing, **wanted, **self._options}
        return compute_two_heads(self._name, self._heads[0], self._heads[1], self._targets, **options)

    def reduce(self, losses: Any) -> Any:
        return reduce_losses(losses.reshape(self.shape), self.counts, self.reduction, self.dtype)
