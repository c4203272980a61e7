"""Gradients of losses made of statistics, for NumPy arrays: the caller says what the loss's derivatives by the statistics are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from slipstick._arguments import integer, is_torch, thread_count
from slipstick._core import losses as _core

from . import _head
from ._numpy import NumpyHead, TwoNumpyHeads, address, compute_two_heads, numpy_statistics, plain_array
from ._statistics import RowStatistics, TopK
from ._traced import Traced, untraced
from ._two_head_statistics import COMBINED, DIVERGENCES, TwoHeadStatistics, check_combination, check_mixture, check_wanted

__all__ = ["row_statistics_and_grad", "two_head_statistics_and_grad"]

Upstream = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
Gradients = tuple[Any, Any, Any]  # by hidden, weight and bias; None of what has none
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
    """row_statistics of NumPy arrays, and the gradients of a loss made of them, whose derivatives by them you know. Else see value_and_grad.

    Here for focal_loss with gamma 2, the mean of -(1 - p)^2 log p:

    >>> import numpy as np
    >>> from slipstick import losses
    >>> hidden, weight, targets = np.ones((2, 8), np.float32), np.eye(5, 8, dtype=np.float32), np.array([1, 4])
    >>> def focal_slopes(rows):
    ...     log_p = rows.target - rows.lse
    ...     slope = (2 * np.exp(log_p) * log_p + np.expm1(log_p)) * -np.expm1(log_p) / len(log_p)
    ...     return {"target": slope, "lse": -slope}
    >>> _, by_hidden, by_weight, _ = losses.row_statistics_and_grad(hidden, weight, targets, upstream=focal_slopes)
    >>> by_weight.shape
    (5, 8)

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
    parts = _with_those_of_gradients(_head.wanted_parts(name, names, 0, targets is not None))
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
    bound = _head.filter_bound(name, filter_eps, head.hidden.dtype.name)
    return statistics, *_gradients_of_statistics(head, found, g, _empty(head), bound, budget, count)


def _with_those_of_gradients(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Statistics, and those that their gradients need."""
    return (*parts, *(each for each in ("lse", *(("argmax",) if "maximum" in parts else ())) if each not in parts))


def _gradients_of_statistics(
    head: NumpyHead, found: dict[str, Any], g: dict[str, Any], out: Gradients, bound: float, budget: int, count: int
) -> Gradients:
    """out, written: the gradients of the sum of statistics times g, float64 each, "topk" of (rows, k). None is not wanted."""
    a, b = g.get("lse"), g.get("expected")
    if b is not None:  # d expected / dz_j = p_j (1 + z_j - expected)
        a = b * (1 - found["expected"]) + (0 if a is None else a)
    c = 2 * g["second_moment"] / head.vocabulary if "second_moment" in g else None
    d = g["mean"] / head.vocabulary if "mean" in g else None
    single = [(head.targets, g["target"])] if "target" in g and head.targets is not None else []
    single += [(found["argmax"], g["maximum"])] if "maximum" in g else []
    single += [(found["topk"].indices, g["topk"])] if "topk" in g else []
    index = np.ascontiguousarray(np.column_stack([x for x, _ in single])) if single else None
    value = np.ascontiguousarray(np.column_stack([x for _, x in single])) if single else None
    entries = 0 if index is None else index.shape[1]
    rows = [None if x is None else np.ascontiguousarray(x, np.float64) for x in (found["lse"], a, b, c, d)]
    at_lse, at_a, at_b, at_c, at_d = map(address, rows)
    to_hidden, to_weight, to_bias = map(address, out)
    _core.backward(
        head.core, at_lse, at_a, at_b, at_c, at_d, entries, address(index), address(value), to_hidden, to_weight, to_bias,
        budget, bound, 0, count,
    )  # fmt: skip
    return out


def traced_statistics(
    hidden: Any, weight: Any, targets: Any, bias: Any, *, parts: tuple[str, ...], topk: int, kind: Any, function: str, scale: float,
    map_and_cap: tuple[str, float], ignore_index: int, filter_eps: Any, workspace: int, threads: int,
) -> dict[str, Any]:  # fmt: skip
    """numpy_statistics of arrays whose gradients are wanted."""
    arrays = [hidden, weight, bias]
    x, w, b = map(untraced, arrays)
    found = numpy_statistics(
        x, w, targets, b, parts=_with_those_of_gradients(parts), topk=topk, map_and_cap=map_and_cap, scale=scale,
        ignore_index=ignore_index, filter_eps=filter_eps, workspace=workspace, threads=threads, kind=np.float64, function=function,
    )  # fmt: skip
    head = NumpyHead(function, x, w, targets, b, scale, map_and_cap, ignore_index)
    bound = _head.filter_bound(function, filter_eps, head.hidden.dtype.name)
    kind = head.sum_type if kind is None else kind
    names = [each for each in parts if each != "argmax"]
    columns = [found[each] for each in names] + ([*found["topk"].values.T] if topk else [])

    def pull(gradient: np.ndarray) -> list[Any]:
        g = {each: gradient[i] for i, each in enumerate(names) if gradient[i].any()}  # 0 of an infinite one is no NaN
        g |= {"topk": gradient[len(names) :].T} if topk else {}
        out = _empty(head, [isinstance(each, Traced) for each in arrays])
        return [each for each in _gradients_of_statistics(head, found, g, out, bound, workspace, threads) if each is not None]

    rows = Traced(np.stack(columns), tuple(each for each in arrays if isinstance(each, Traced)), pull) if columns else None
    result: dict[str, Any] = {each: found[each] for each in ("argmax", "collapsed") if each in found}
    if rows is not None:
        result |= {each: rows[i].astype(kind) for i, each in enumerate(names)}
    if rows is not None and topk:
        result["topk"] = TopK(rows[len(names) :].T.astype(kind), found["topk"].indices)
    return result


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
    total: list[Any] = []
    for kind in found.divergences:
        if any(each in g for each in DIVERGENCES[kind]):
            by = [g.get(each) for each in DIVERGENCES[kind]]
            _add(total, _gradients_of_divergence(found, kind, mixture, by, _both(found), budget, count))
    if any(each in g for each in COMBINED):
        _add(total, _gradients_of_combination(found, coefficient, [g.get(each) for each in COMBINED], _both(found), budget, count))
    if not total:
        total = [None if each is None else np.zeros_like(each) for each in _both(found)]
    first_hidden, first_weight, first_bias, *second_gradients = total
    by_hidden, by_weight, by_bias = second_gradients
    return statistics, (first_hidden, first_weight, first_bias), (by_hidden, by_weight, by_bias)


def _both(found: TwoNumpyHeads, wanted: Sequence[bool] = (True,) * 6) -> list[Any]:
    """Room for the gradients of both heads."""
    return [*_empty(found.heads[0], wanted[:3]), *_empty(found.heads[1], wanted[3:])]


def _add(total: list[Any], parts: list[Any]) -> None:
    if not total:
        total += parts
        return
    for whole, part in zip(total, parts, strict=True):
        if whole is not None:
            whole += part


def _places(out: list[Any]) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """What the core wants to know of gradients of both heads."""
    hidden, weight, bias, other_hidden, other_weight, other_bias = map(address, out)
    return (hidden, weight, bias), (other_hidden, other_weight, other_bias)


def _gradients_of_divergence(
    found: TwoNumpyHeads, kind: str, mixture: float, by: list[Any], out: list[Any], budget: int, count: int
) -> list[Any]:
    """out, written. by: the loss's derivatives by the arrays of that divergence, float64; fewer than there are arrays where they have none."""
    one, other = (head.core for head in found.heads)
    forward, reverse, lse, second_lse = map(address, found.divergences[kind])
    by_forward, by_reverse, by_lse, by_second_lse = map(address, (*by, *(None,) * (4 - len(by))))
    by_all = (by_forward, by_reverse, by_lse, by_second_lse)
    _core.divergence_backward(one, other, kind, mixture, forward, reverse, lse, second_lse, by_all, *_places(out), budget, count)
    return out


def _gradients_of_combination(
    found: TwoNumpyHeads, coefficient: float, by: list[Any], out: list[Any], budget: int, count: int
) -> list[Any]:
    """The same of the target's logit and the log-sum-exp of combined logits."""
    one, other = (head.core for head in found.heads)
    to_target, to_lse = map(address, by)
    at_least, at_lse = address(found.least), address(found.combined_lse)
    _core.combined_backward(one, other, coefficient, at_least, at_lse, to_lse, to_target, *_places(out), budget, count)
    return out


def traced_two_heads(
    name: str, first: tuple[Any, Any, Any], second: tuple[Any, Any, Any], targets: Any, *, mixture: float, coefficient: float,
    workspace: int | None, threads: int, **options: Any,
) -> TwoNumpyHeads:  # fmt: skip
    """compute_two_heads of arrays whose gradients are wanted."""
    arrays = [*first, *second]
    sources = tuple(each for each in arrays if isinstance(each, Traced))
    wanted = [isinstance(each, Traced) for each in arrays]
    found = compute_two_heads(
        name, (untraced(first[0]), untraced(first[1]), untraced(first[2])), (untraced(second[0]), untraced(second[1]), untraced(second[2])),
        targets, mixture=mixture, coefficient=coefficient, workspace=workspace, threads=threads, **options,
    )  # fmt: skip
    budget = _head.workspace_bytes(name, workspace)

    def traced(values: Sequence[Any], gradients: Callable[[list[Any], list[Any]], list[Any]]) -> list[Any]:
        def pull(g: Any) -> list[Any]:
            by = [np.ascontiguousarray(each) if each.any() else None for each in g]
            return [each for each in gradients(by, _both(found, wanted)) if each is not None]

        rows = Traced(np.stack(values), sources, pull)
        return [rows[i] for i in range(len(values))]

    result = dataclasses.replace(found, divergences={})
    for kind, values in found.divergences.items():
        names = DIVERGENCES[kind]

        def of_divergence(by: list[Any], out: list[Any], kind: str = kind) -> list[Any]:
            return _gradients_of_divergence(found, kind, mixture, by, out, budget, threads)

        result.divergences[kind] = [*traced(values[: len(names)], of_divergence), *values[len(names) :]]
    if found.combined_lse is not None:

        def of_combination(by: list[Any], out: list[Any]) -> list[Any]:
            return _gradients_of_combination(found, coefficient, by, out, budget, threads)

        result.combined_target, result.combined_lse = traced((found.combined_target, found.combined_lse), of_combination)
    return result


def _refuse_tensors(name: str, hidden: Any) -> None:
    if isinstance(hidden, Traced):
        raise TypeError(f"{name}: hidden is an array of value_and_grad; expected a plain one, as statistics are differentiable once")
    if is_torch(hidden):
        raise TypeError(f"{name}: hidden is a torch.Tensor; expected a NumPy array, as tensors have autograd")


def _empty(head: NumpyHead, wanted: Sequence[bool] = (True, True, True)) -> Gradients:
    return (
        np.empty(head.hidden.shape, head.hidden.dtype) if wanted[0] else None,
        np.empty(head.weight.shape, head.weight.dtype) if wanted[1] else None,
        np.empty(head.vocabulary, head.sum_type) if wanted[2] and head.bias is not None else None,
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
