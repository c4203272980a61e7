"""Gradients of losses made of statistics, for NumPy arrays: the caller says what the loss's derivatives by the statistics are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from slipstick._arguments import integer, is_torch, thread_count
from slipstick._core import losses as _core

from . import _head
from ._numpy import NumpyHead, address, compute_two_heads, numpy_statistics, plain_array
from ._statistics import RowStatistics
from ._two_head_statistics import COMBINED, DIVERGENCES, TwoHeadStatistics, check_combination, check_mixture, check_wanted

__all__ = ["row_statistics_and_grad", "two_head_statistics_and_grad"]

Upstream = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
Gradients = tuple[np.ndarray, np.ndarray, np.ndarray | None]
_DIFFERENTIABLE = ("target", "lse", "mean", "second_moment", "expected", "entropy", "maximum")


def row_statistics_and_grad(
    hidden: Any,
    weight: Any,
    targets: Any = None,
    *,
    upstream: Upstream,
    want: Iterable[str] = ("target", "lse"),
    bias: Any = None,
    softcap: float | None = None,
    scale: float = 1.0,
    ignore_index: int = -100,
    logit_map: str | None = None,
    filter_eps: float | str | None = None,
    workspace: int | None = None,
    threads: int | None = None,
) -> tuple[RowStatistics, np.ndarray, np.ndarray, np.ndarray | None]:
    """row_statistics of NumPy arrays, and the gradients of a loss made of them: for training without torch.

    Args:
        hidden, weight, targets, bias, ...: see row_statistics, NumPy arrays; scale is a number.
        want: some of target, lse, mean, second_moment, expected, entropy, maximum.
        upstream: the loss's derivatives by wanted statistics, {name: (rows,) array or number}, or a function that makes them of the
            RowStatistics. Those in ignored rows count for nothing.
    Returns:
        (statistics, gradient by hidden, by weight, by bias), gradients in the shapes and dtypes of these; that of bias in the dtype of the
        statistics, None without bias.
    Raises:
        As row_statistics; TypeError for torch tensors, which have autograd; ValueError where upstream names what was not wanted.
    Notes:
        Four products of the size of the logits, two with filter_eps. linear_cross_entropy_and_grad needs three. Errors: see ERROR_BOUNDS.
    """
    name = "row_statistics_and_grad"
    _refuse_tensors(name, hidden)
    names = _head.wanted_names(name, want)
    for each in names:
        if each not in _DIFFERENTIABLE:
            raise ValueError(f"{name}: want holds {each!r}; expected some of {str(_DIFFERENTIABLE)[1:-1]}")
    parts = _head.wanted_parts(name, names, 0, targets is not None)
    parts = (*parts, *(each for each in ("lse", *(("argmax",) if "maximum" in parts else ())) if each not in parts))
    map_and_cap, factor = _head.map_name(name, softcap, logit_map), _head.number(name, "scale", scale)
    ignore_index, budget = integer(name, "ignore_index", ignore_index), _head.workspace_bytes(name, workspace)
    count = thread_count(name, threads)
    found = numpy_statistics(
        hidden, weight, targets, bias, parts=parts, topk=0, map_and_cap=map_and_cap, scale=factor, ignore_index=ignore_index,
        filter_eps=filter_eps, workspace=budget, threads=count, kind=np.float64, function=name,
    )  # fmt: skip
    head = NumpyHead(name, hidden, weight, targets, bias, factor, map_and_cap, ignore_index)
    statistics = RowStatistics({each: x.astype(head.sum_type) for each, x in found.items()}, names)
    g = _derivatives(name, upstream, statistics, names, head.rows)
    if "entropy" in g:  # lse - expected
        g["lse"], g["expected"] = g.get("lse", 0) + g["entropy"], g.get("expected", 0) - g["entropy"]
    a, b = g.get("lse"), g.get("expected")
    if b is not None:  # d expected / dz_j = p_j (1 + z_j - expected)
        a = b * (1 - found["expected"]) + (0 if a is None else a)
    c = 2 * g["second_moment"] / head.vocabulary if "second_moment" in g else None
    d = g["mean"] / head.vocabulary if "mean" in g else None
    single = [(head.targets, g["target"])] if "target" in g else []
    single += [(found["argmax"], g["maximum"])] if "maximum" in g else []
    index = np.stack([x for x, _ in single], 1) if single else None
    value = np.stack([x for _, x in single], 1) if single else None
    gradients = _empty(head)
    lse, *coefficients = (None if x is None else np.ascontiguousarray(x, np.float64) for x in (found["lse"], a, b, c, d))
    at = [address(x) for x in (lse, *coefficients)]
    bound = _head.filter_bound(name, filter_eps, head.hidden.dtype.name)
    to = [address(x) for x in gradients]
    _core.backward(head.core, *[*at, len(single), address(index), address(value), *to, budget, bound, 0, count])
    return statistics, *gradients


def two_head_statistics_and_grad(
    hidden: Any,
    weight: Any,
    second_hidden: Any,
    second_weight: Any,
    targets: Any = None,
    *,
    upstream: Upstream,
    want: Iterable[str] = ("forward_kl", "reverse_kl"),
    bias: Any = None,
    second_bias: Any = None,
    mixture: float = 0.5,
    coefficient: float = -1.0,
    threshold: float | None = None,
    kept_share: float = 0.1,
    softcap: float | None = None,
    scale: float = 1.0,
    ignore_index: int = -100,
    workspace: int | None = None,
    threads: int | None = None,
) -> tuple[TwoHeadStatistics, Gradients, Gradients]:
    """two_head_statistics of NumPy arrays, and the gradients of a loss made of them: distillation without torch.

    Args:
        hidden, weight, ...: see two_head_statistics, NumPy arrays.
        upstream: see row_statistics_and_grad, of TwoHeadStatistics.
    Returns:
        (statistics, gradients of the first head, of the second), each by hidden, weight and bias as in row_statistics_and_grad.
    Raises:
        As two_head_statistics; TypeError for torch tensors, which have autograd; ValueError where upstream names what was not wanted.
    Notes:
        Each pass over both heads that two_head_statistics takes has a backward of six products of the size of the logits.
    """
    name = "two_head_statistics_and_grad"
    _refuse_tensors(name, hidden)
    wanted = check_wanted(name, want, targets)
    mixture, coefficient = check_mixture(name, mixture), check_combination(name, coefficient, threshold, kept_share)
    budget, count = _head.workspace_bytes(name, workspace), thread_count(name, threads)
    found = compute_two_heads(
        name, (hidden, weight, bias), (second_hidden, second_weight, second_bias), targets,
        kinds=[kind for kind, names in DIVERGENCES.items() if set(names) & set(wanted)], mixture=mixture,
        combined=bool(set(COMBINED) & set(wanted)), coefficient=coefficient, threshold=threshold, kept_share=kept_share, softcap=softcap,
        scale=scale, ignore_index=integer(name, "ignore_index", ignore_index), workspace=budget, threads=count,
    )  # fmt: skip
    values = found.by_name()
    statistics = TwoHeadStatistics(**{each: values[each] for each in wanted})
    g = _derivatives(name, upstream, statistics, wanted, found.heads[0].rows)
    one, other = (head.core for head in found.heads)
    passes: list[tuple[Gradients, Gradients]] = []

    def room() -> tuple[tuple[int, ...], tuple[int, ...]]:
        passes.append((_empty(found.heads[0]), _empty(found.heads[1])))
        first, second = (tuple(address(x) for x in each) for each in passes[-1])
        return first, second

    for kind, arrays in found.divergences.items():
        by = [g.get(each) for each in (*DIVERGENCES[kind], None, None, None)[: len(arrays)]]
        if any(x is not None for x in by):
            at = [address(x) for x in arrays]
            _core.divergence_backward(one, other, kind, mixture, *[*at, tuple(address(x) for x in by), *room(), budget, count])
    by_target, by_lse = (g.get(each) for each in COMBINED)
    if by_target is not None or by_lse is not None:
        at = [address(x) for x in (found.least, found.combined_lse, by_lse, by_target)]
        _core.combined_backward(one, other, coefficient, *[*at, *room(), budget, count])
    if not passes:
        room()
        for x in (x for each in passes[0] for x in each if x is not None):
            x[...] = 0
    first, second = passes[0]
    for more in passes[1:]:
        for x, y in zip((*first, *second), (*more[0], *more[1]), strict=True):
            if x is not None:
                x += y
    return statistics, first, second


def _refuse_tensors(name: str, hidden: Any) -> None:
    if is_torch(hidden):
        raise TypeError(f"{name}: hidden is a torch.Tensor; expected a NumPy array, as tensors have autograd")


def _empty(head: NumpyHead) -> Gradients:
    return (
        np.empty(head.hidden.shape, head.hidden.dtype),
        np.empty(head.weight.shape, head.weight.dtype),
        None if head.bias is None else np.empty(head.vocabulary, head.sum_type),
    )


def _derivatives(name: str, upstream: Any, statistics: Any, wanted: tuple[str, ...], rows: int) -> dict[str, Any]:
    """Arrays of rows by name."""
    given = upstream(statistics) if callable(upstream) else upstream
    if not isinstance(given, Mapping):
        raise TypeError(f"{name}: upstream gives a {type(given).__name__}; expected a mapping of names to arrays")
    out = {}
    for each, values in given.items():
        if each not in wanted:
            raise ValueError(f"{name}: upstream holds {each!r}; expected some of {str(wanted)[1:-1]}, as wanted")
        array = plain_array(name, f"upstream[{each!r}]", values, np.float64)
        if array.shape not in ((), (rows,)):
            raise ValueError(f"{name}: upstream[{each!r}] has shape {array.shape}; expected {(rows,)} or a number")
        out[each] = np.ascontiguousarray(np.broadcast_to(array, (rows,)))
    return out
