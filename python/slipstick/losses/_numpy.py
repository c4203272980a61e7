"""NumPy arrays through the core: values, and cross-entropy with its gradients. bfloat16 arrays are those of ml_dtypes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from slipstick._arguments import is_torch
from slipstick._core import losses as _core

from . import _head
from ._traced import Traced


def address(array: np.ndarray | None) -> int:
    return 0 if array is None else array.__array_interface__["data"][0]


def _rows(array: np.ndarray) -> np.ndarray:
    """The array itself where its rows are contiguous and apart by whole elements."""
    size = array.dtype.itemsize
    in_place = array.strides[1] == size or array.shape[1] <= 1
    return array if in_place and array.strides[0] % size == 0 else np.ascontiguousarray(array)


def _native(array: np.ndarray) -> np.ndarray:
    """In the byte order of the machine."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def integers(function: str, name: str, values: Any) -> np.ndarray:
    """values as an array of int64, from integers of any size.

    Raises:
        TypeError: an element is masked or no integer. IndexError: one is beyond int64.
    """
    array = plain_array(function, name, values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{function}: {name} has dtype {array.dtype}; expected int64")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise IndexError(f"{function}: {name} holds {int(array.max())}, which is no class")
    return array.astype(np.int64, copy=False)


def plain_array(function: str, name: str, values: Any, dtype: Any = None) -> Any:
    """values as an array without a mask, of that dtype if one is given; those of value_and_grad stay what they are.

    Raises:
        TypeError: an element is masked or no real number.
    """
    if isinstance(values, Traced):
        return values if dtype is None else values.astype(dtype)
    if np.ma.is_masked(values):
        raise TypeError(f"{function}: {name} is a masked array; expected a plain one, such as its filled()")
    if is_torch(values):
        raise TypeError(f"{function}: {name} is a torch.Tensor; expected a NumPy array, as the others are")
    if values is None or isinstance(values, (str, bytes)):
        raise TypeError(f"{function}: {name} is {'None' if values is None else f'a {type(values).__name__}'}; expected an array of numbers")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise TypeError(f"{function}: {name} is a {type(values).__name__}; expected an array of numbers") from None
    if array.dtype.kind not in "biufV":  # V: ml_dtypes
        raise TypeError(f"{function}: {name} has dtype {array.dtype}; expected real numbers")
    return array if dtype is None else array.astype(dtype, copy=False)


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
        hidden, weight = (_native(plain_array(function, name, x)) for name, x in zip(names, (hidden, weight), strict=True))
        self.targets = None if targets is None else np.ascontiguousarray(integers(function, "targets", targets))
        bias = None if bias is None else plain_array(function, _head.bias_name(names[0]), bias)
        _head.check_shapes(function, hidden, weight, self.targets, bias, names)
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
            address(self.hidden),
            address(self.weight),
            address(self.bias),
            self.rows,
            self.width,
            self.vocabulary,
            self.hidden.strides[0] // size,
            self.weight.strides[0] // size,
            scale,
            *map_and_cap,
            address(self.targets),
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
    function: str = "row_statistics",
) -> dict[str, Any]:
    """The parts by name, and "topk", in `kind` or what row_statistics says. function: named by errors."""
    if isinstance(hidden, Traced) or isinstance(weight, Traced) or isinstance(bias, Traced):
        from ._numpy_gradients import traced_statistics

        return traced_statistics(
            hidden, weight, targets, bias, parts=parts, topk=topk, map_and_cap=map_and_cap, scale=scale, ignore_index=ignore_index,
            filter_eps=filter_eps, workspace=workspace, threads=threads, kind=kind, function=function,
        )  # fmt: skip
    head = NumpyHead(function, hidden, weight, targets, bias, scale, map_and_cap, ignore_index)
    _head.filter_bound(function, filter_eps, head.hidden.dtype.name)
    _head.check_topk(function, topk, head.vocabulary)
    found = {name: np.empty(head.rows, np.int64 if name == "argmax" else np.float64) for name in parts}
    values, indices = np.empty((head.rows, topk)), np.empty((head.rows, topk), np.int64)
    addresses = [address(found.get(name)) for name in _head.CORE_STATISTICS]
    _core.row_statistics(head.core, *[*addresses, topk, address(values), address(indices), threads])
    kind = head.sum_type if kind is None else kind
    result: dict[str, Any] = {name: array if name == "argmax" else array.astype(kind) for name, array in found.items()}
    if "target" in found and "lse" in found:
        with np.errstate(invalid="ignore"):  # infinity less infinity
            result["collapsed"] = _head.collapsed(found["target"], found["lse"], head.hidden.dtype.name)
    if topk:
        from ._statistics import TopK

        result["topk"] = TopK(values.astype(kind), indices)
    return result


@dataclasses.dataclass
class TwoNumpyHeads:
    """Checked heads, and what was computed of them, in float64."""

    heads: list[NumpyHead]
    divergences: dict[str, list[np.ndarray]]  # of each kind, as the core writes them
    least: np.ndarray | None = None
    combined_target: np.ndarray | None = None
    combined_lse: np.ndarray | None = None

    def by_name(self) -> dict[str, np.ndarray]:
        """What two_head_statistics is made of."""
        from ._two_head_statistics import COMBINED, DIVERGENCES

        found = {name: x for kind, values in self.divergences.items() for name, x in zip(DIVERGENCES[kind], values)}
        if self.combined_target is not None and self.combined_lse is not None:
            found |= zip(COMBINED, (self.combined_target, self.combined_lse), strict=True)
        return {name: x.astype(self.heads[0].sum_type) for name, x in found.items()}


def compute_two_heads(
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
    names: tuple[str, str] = ("second_hidden", "second_weight"),
) -> TwoNumpyHeads:
    """names: of the second head, in errors."""
    from ._two_head_statistics import DIVERGENCES, kept_classes

    if any(isinstance(x, Traced) for x in (*first, *second)):
        from ._numpy_gradients import traced_two_heads

        return traced_two_heads(
            name, first, second, targets, kinds=kinds, mixture=mixture, combined=combined, coefficient=coefficient, threshold=threshold,
            kept_share=kept_share, softcap=softcap, scale=scale, ignore_index=ignore_index, workspace=workspace, threads=threads, names=names,
        )  # fmt: skip

    map_and_cap, factor = _head.map_name(name, softcap, None), _head.number(name, "scale", scale)
    budget = _head.workspace_bytes(name, workspace)
    heads = [
        NumpyHead(name, hidden, weight, targets, bias, factor, map_and_cap, ignore_index, own)
        for (hidden, weight, bias), own in ((first, ("hidden", "weight")), (second, names))
    ]
    one, other = (head.core for head in heads)
    rows = heads[0].rows
    found = TwoNumpyHeads(heads, {})
    for kind in kinds:
        values = [np.empty(rows) for _ in DIVERGENCES["kl"]]
        forward, reverse, lse, second_lse = map(address, values)
        _core.divergence(one, other, kind, mixture, forward, reverse, lse, second_lse, threads)
        found.divergences[kind] = values
    if combined:
        found.combined_target, found.combined_lse = np.zeros(rows), np.empty(rows)
        if threshold is not None:
            maximum, kth = np.empty(rows), np.empty(rows)
            _core.kth_largest(one, kept_classes(heads[0].vocabulary, kept_share), address(maximum), address(kth), budget, threads)
            found.least = np.minimum(maximum + np.log(threshold), kth)
        to_target = 0 if heads[0].targets is None else address(found.combined_target)
        _core.combined_statistics(one, other, coefficient, address(found.least), to_target, address(found.combined_lse), threads)
    return found


def numpy_two_heads(*arguments: Any, **options: Any) -> dict[str, np.ndarray]:
    """What two_head_statistics is made of, by name; see compute_two_heads."""
    return compute_two_heads(*arguments, **options).by_name()


def numpy_cross_entropy(
    head: NumpyHead,
    row_weight: np.ndarray | None,
    mean: bool,
    label_smoothing: float,
    z_loss: float,
    workspace: int,
    filter_eps: float,
    threads: int,
    dropped: np.ndarray | None,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray | None]:
    """Sum or mean of the weighted losses, and its gradients by hidden, weight and bias. dropped: float64, one element a row, is written."""
    hidden = np.empty((head.rows, head.width), head.hidden.dtype)
    weight = np.empty((head.vocabulary, head.width), head.weight.dtype)
    bias = None if head.bias is None else np.empty(head.vocabulary, head.sum_type)
    row_weight = None if row_weight is None else np.ascontiguousarray(row_weight, np.float64)
    total = _core.cross_entropy(
        head.core,
        address(row_weight),
        label_smoothing,
        z_loss,
        mean,
        address(hidden),
        address(weight),
        address(bias),
        workspace,
        filter_eps,
        address(dropped),
        threads,
        0,
        0,
    )
    return total, hidden, weight, bias
