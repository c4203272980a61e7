"""NumPy arrays through the core: values, and cross-entropy with its gradients. bfloat16 arrays are those of ml_dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from slipstick._core import losses as _core

from . import _head


def _address(array: np.ndarray | None) -> int:
    return 0 if array is None else array.__array_interface__["data"][0]


def _rows(array: np.ndarray) -> np.ndarray:
    """The array itself where its rows are contiguous and apart by whole elements."""
    size = array.dtype.itemsize
    in_place = array.strides[1] == size or array.shape[1] <= 1
    return array if in_place and array.strides[0] % size == 0 else np.ascontiguousarray(array)


def _native(array: np.ndarray) -> np.ndarray:
    """In the byte order of the machine."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _integers(function: str, targets: Any) -> np.ndarray | None:
    if targets is None:
        return None
    targets = np.asarray(targets)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"{function}: targets has dtype {targets.dtype}; expected int64")
    if targets.dtype.kind == "u" and targets.size and int(targets.max()) > np.iinfo(np.int64).max:
        raise IndexError(f"{function}: targets holds {int(targets.max())}, which is no class")
    return np.ascontiguousarray(targets, np.int64)


class NumpyHead:
    """Checked arrays, kept alive beside the core's view of them."""

    def __init__(
        self,
        function: str,
        hidden: Any,
        weight: Any,
        targets: Any,
        bias: Any,
        scale: float,
        map_and_cap: tuple[str, float],
        ignore_index: int,
        names: tuple[str, str] = ("hidden", "weight"),
    ) -> None:
        hidden, weight = _native(np.asarray(hidden)), _native(np.asarray(weight))
        self.targets = _integers(function, targets)
        _head.check_shapes(function, hidden, weight, self.targets, None if bias is None else np.asarray(bias), names)
        _head.check_dtypes(function, hidden.dtype.name, weight.dtype.name, names)
        self.hidden, self.weight = _rows(hidden), _rows(weight)
        self.sum_type = np.dtype(np.float64 if hidden.dtype == np.float64 else np.float32)
        self.bias = None if bias is None else np.ascontiguousarray(bias, self.sum_type)
        self.rows, self.width = hidden.shape
        self.vocabulary = weight.shape[0]
        if self.targets is not None:
            _head.check_target_range(function, self.targets, self.vocabulary, ignore_index)
        size = hidden.dtype.itemsize
        self.core = _core.Head(
            hidden.dtype.name,
            _address(self.hidden),
            _address(self.weight),
            _address(self.bias),
            self.rows,
            self.width,
            self.vocabulary,
            self.hidden.strides[0] // size,
            self.weight.strides[0] // size,
            scale,
            *map_and_cap,
            _address(self.targets),
            ignore_index,
        )


def numpy_statistics(
    hidden: Any,
    weight: Any,
    targets: Any,
    bias: Any,
    *,
    parts: tuple[str, ...],
    topk: int,
    map_and_cap: tuple[str, float],
    scale: float,
    ignore_index: int,
    filter_eps: Any,
    workspace: int,
    threads: int,
    kind: Any = None,
) -> dict[str, Any]:
    """The parts by name, and "topk", in `kind` or what row_statistics says."""
    head = NumpyHead("row_statistics", hidden, weight, targets, bias, scale, map_and_cap, ignore_index)
    _head.filter_bound("row_statistics", filter_eps, head.hidden.dtype.name)
    _head.check_topk("row_statistics", topk, head.vocabulary)
    found = {name: np.empty(head.rows, np.int64 if name == "argmax" else np.float64) for name in parts}
    values, indices = np.empty((head.rows, topk)), np.empty((head.rows, topk), np.int64)
    addresses = [_address(found.get(name)) for name in _head.CORE_STATISTICS]
    _core.row_statistics(head.core, *[*addresses, topk, _address(values), _address(indices), threads])
    kind = head.sum_type if kind is None else kind
    result: dict[str, Any] = {name: array if name == "argmax" else array.astype(kind) for name, array in found.items()}
    if "target" in found and "lse" in found:
        result["collapsed"] = _head.collapsed(found["target"], found["lse"], head.hidden.dtype.name)
    if topk:
        from ._statistics import TopK

        result["topk"] = TopK(values.astype(kind), indices)
    return result


def numpy_two_heads(
    name: str,
    first: tuple[Any, Any, Any],
    second: tuple[Any, Any, Any],
    targets: Any,
    *,
    kinds: list[str],
    mixture: float,
    combined: bool,
    coefficient: float,
    threshold: float | None,
    kept_share: float,
    softcap: float | None,
    scale: float,
    ignore_index: int,
    workspace: int | None,
    threads: int,
) -> dict[str, np.ndarray]:
    """What two_head_statistics is made of, by name."""
    from ._two_head_statistics import COMBINED, DIVERGENCES, NAMES, kept_classes

    map_and_cap, factor = _head.map_name(name, softcap, None), _head.number(name, "scale", scale)
    budget = _head.workspace_bytes(name, workspace)
    heads = [
        NumpyHead(name, hidden, weight, targets, bias, factor, map_and_cap, ignore_index, names)
        for (hidden, weight, bias), names in ((first, ("hidden", "weight")), (second, NAMES))
    ]
    one, other = (head.core for head in heads)
    rows = heads[0].rows
    found: dict[str, np.ndarray] = {}
    for kind in kinds:
        values = [np.empty(rows) for _ in DIVERGENCES["kl"]]
        forward, reverse, lse, second_lse = map(_address, values)
        _core.divergence(one, other, kind, mixture, forward, reverse, lse, second_lse, threads)
        found |= zip(DIVERGENCES[kind], values)
    if combined:
        least, target, combined_lse = None, np.zeros(rows), np.empty(rows)
        if threshold is not None:
            maximum, kth = np.empty(rows), np.empty(rows)
            _core.kth_largest(one, kept_classes(heads[0].vocabulary, kept_share), _address(maximum), _address(kth), budget, threads)
            least = np.minimum(maximum + np.log(threshold), kth)
        to_target = 0 if heads[0].targets is None else _address(target)
        _core.combined_statistics(one, other, coefficient, _address(least), to_target, _address(combined_lse), threads)
        found |= zip(COMBINED, (target, combined_lse), strict=True)
    return {name: x.astype(heads[0].sum_type) for name, x in found.items()}


def numpy_cross_entropy(
    head: NumpyHead,
    row_weight: np.ndarray,
    label_smoothing: float,
    z_loss: float,
    workspace: int,
    filter_eps: float,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Weighted losses (float64), and the gradients of their sum by hidden, weight and bias."""
    losses, lse = np.empty(head.rows), np.empty(head.rows)
    hidden = np.empty((head.rows, head.width), head.hidden.dtype)
    weight = np.empty((head.vocabulary, head.width), head.weight.dtype)
    bias = None if head.bias is None else np.empty(head.vocabulary, head.sum_type)
    row_weight = np.ascontiguousarray(row_weight, np.float64)
    _core.cross_entropy(
        head.core,
        _address(row_weight),
        label_smoothing,
        z_loss,
        _address(hidden),
        _address(weight),
        _address(bias),
        workspace,
        filter_eps,
        0,
        threads,
        _address(losses),
        _address(lse),
    )
    return losses, hidden, weight, bias
