"""NumPy arrays that remember what they were made of, so that a formula written for arrays has gradients: reverse mode, once.

NumPy hands its functions over to `Traced` (`__array_ufunc__` and `__array_function__`), so that formulas stay as they are. What is here is
what they are made of; statistics of heads, whose backward is the core's, are traced in _numpy_gradients.py. Where a function has a corner its
derivative is that of torch: of one side, or the average of both.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Pull = Callable[[Any], Sequence[Any]]
_COUNT = itertools.count()


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """An array, what it was made of, and how its gradient becomes those of its sources."""

    def __init__(self, value: Any, sources: tuple[Traced, ...] = (), pull: Pull | None = None) -> None:
        self.value, self.sources, self.pull = value, sources, pull
        self.order = next(_COUNT)  # rises from sources to what is made of them

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    T = property(lambda self: Traced(self.value.T, (self,), lambda g: (g.T,)))

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return f"Traced({self.value!r})"

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("slipstick.losses: an array of value_and_grad where a plain one is needed, which would lose its gradient")

    def __getitem__(self, index: Any) -> Traced:
        # A list is an array of places; what is in `index` may be changed later.
        index = tuple(map(_own_index, index)) if isinstance(index, tuple) else _own_index(index)
        return Traced(self.value[index], (self,), lambda g: (_placed(g, index, self.value),))

    def astype(self, dtype: Any) -> Traced:
        return self if self.dtype == dtype else Traced(self.value.astype(dtype), (self,), lambda g: (g,))

    def reshape(self, *shape: Any) -> Traced:
        return Traced(self.value.reshape(*shape), (self,), lambda g: (g.reshape(self.shape),))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Traced:
        pull = lambda g: (np.broadcast_to(_with_axes(g, axis, keepdims), self.shape),)  # noqa: E731
        return Traced(self.value.sum(axis, keepdims=keepdims), (self,), pull)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Traced:
        value = self.value.mean(axis, keepdims=keepdims)
        share = value.size / max(1, self.size)
        pull = lambda g: (np.broadcast_to(_with_axes(g * share, axis, keepdims), self.shape),)  # noqa: E731
        return Traced(value, (self,), pull)

    def max(self, axis: Any = None, keepdims: bool = False) -> Traced:
        return _extremum(self, self.value.max(axis, keepdims=True), axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Traced:
        return _extremum(self, self.value.min(axis, keepdims=True), axis, keepdims)

    def item(self) -> Any:
        raise TypeError(
            "slipstick.losses: item() gives a plain number, which would lose its gradient; expected an array of one number as it is"
        )

    __float__ = __int__ = item

    def cumsum(self, axis: int) -> Traced:
        return Traced(self.value.cumsum(axis), (self,), lambda g: (np.flip(np.flip(g, axis).cumsum(axis), axis),))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "accumulate" and ufunc is np.logaddexp:
            return _log_cumulative_sum(*inputs, **options)
        if method == "__call__" and isinstance(options.get("out", (None,))[0], Traced):
            raise TypeError(
                f"slipstick.losses: numpy.{ufunc.__name__} would change an array in place; expected x = x + y in place of x += y"
            )
        if method != "__call__" or options or ufunc.nout > 1:
            called = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            given = f" with {', '.join(options)}" if options else ""
            raise TypeError(f"slipstick.losses: numpy.{called}{given} has no derivative")
        values = [untraced(x) for x in inputs]
        result = values[0] ** values[1] if ufunc is np.power else ufunc(*values)  # NumPy has two ways to a power
        if result.dtype == bool:
            return result
        if ufunc not in _RULES:
            raise TypeError(f"slipstick.losses: numpy.{ufunc.__name__} has no derivative; expected some of {', '.join(_KNOWN)}")
        at = [i for i, x in enumerate(inputs) if isinstance(x, Traced)]
        rules, shapes = [_RULES[ufunc][i] for i in at], [inputs[i].shape for i in at]
        return Traced(
            result, tuple(inputs[i] for i in at), lambda g: [_summed(rule(g, result, *values), shape) for rule, shape in zip(rules, shapes)]
        )

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        if function not in _FUNCTIONS:
            raise TypeError(f"slipstick.losses: numpy.{function.__name__} has no derivative; expected some of {', '.join(_KNOWN)}")
        return _FUNCTIONS[function](*arguments, **options)


def untraced(x: Any) -> Any:
    """x, or the array itself."""
    return x.value if isinstance(x, Traced) else x


def pulled_back(result: Traced, gradient: Any, leaves: Sequence[Any]) -> list[Any]:
    """The gradient of sum(result * gradient) by each leaf, zeros where it does not depend on it."""
    gradients: dict[int, Any] = {result.order: gradient}
    nodes, waiting = {result.order: result}, [-result.order]
    with np.errstate(all="ignore"):
        while waiting:
            node = nodes.pop(-heapq.heappop(waiting))
            if node.pull is None:
                continue
            parts = node.pull(gradients.pop(node.order))
            for source, part in zip(node.sources, parts, strict=True):
                if source.order not in gradients:
                    heapq.heappush(waiting, -source.order)
                    nodes[source.order] = source
                    gradients[source.order] = np.asarray(part, source.dtype)
                else:
                    gradients[source.order] = gradients[source.order] + np.asarray(part, source.dtype)
    return [np.array(gradients[leaf.order]) if leaf.order in gradients else np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]


# ---- elementwise: of the result's gradient, the result and the operands ------------------------------------------------------------------

_RULES: dict[Any, tuple[Callable[..., Any], ...]] = {
    np.add: (lambda g, out, x, y: g, lambda g, out, x, y: g),
    np.subtract: (lambda g, out, x, y: g, lambda g, out, x, y: -g),
    np.multiply: (lambda g, out, x, y: g * y, lambda g, out, x, y: g * x),
    np.divide: (lambda g, out, x, y: g / y, lambda g, out, x, y: -g * (out / y)),
    np.power: (
        lambda g, out, x, y: g * np.where(y == 0, 0, y * x ** (y - 1)),
        lambda g, out, x, y: g * np.where((x == 0) & (y >= 0), 0, out * np.log(x)),
    ),
    np.logaddexp: (lambda g, out, x, y: g / (1 + np.exp(y - x)), lambda g, out, x, y: g / (1 + np.exp(x - y))),
    np.minimum: (lambda g, out, x, y: _won(g, x < y, x == y), lambda g, out, x, y: _won(g, y < x, x == y)),
    np.maximum: (lambda g, out, x, y: _won(g, x > y, x == y), lambda g, out, x, y: _won(g, y > x, x == y)),
    np.negative: (lambda g, out, x: -g,),
    np.absolute: (lambda g, out, x: g * np.sign(x),),
    np.square: (lambda g, out, x: g * (2 * x),),
    np.sqrt: (lambda g, out, x: g / (2 * out),),
    np.exp: (lambda g, out, x: g * out,),
    np.expm1: (lambda g, out, x: g * (out + 1),),
    np.log: (lambda g, out, x: g / x,),
    np.log1p: (lambda g, out, x: g / (1 + x),),
    np.tanh: (lambda g, out, x: g * (1 - out * out),),
    np.matmul: (lambda g, out, x, y: _of_product(g, x, y, True), lambda g, out, x, y: _of_product(g, x, y, False)),
}


def _won(g: Any, better: Any, equal: Any) -> Any:
    """Nothing where the other one is taken, whatever g is there."""
    return np.where(better, g, np.where(equal, 0.5 * g, 0))


def _of_product(g: Any, x: Any, y: Any, left: bool) -> Any:
    """The gradient of x @ y by x, or by y; vectors are rows on the left and columns on the right."""
    rows, columns = x[None] if x.ndim == 1 else x, y[:, None] if y.ndim == 1 else y
    g = np.asarray(g).reshape(*np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2]), rows.shape[-2], columns.shape[-1])
    if left:
        return _summed(g @ columns.swapaxes(-1, -2), rows.shape).reshape(x.shape)
    return _summed(rows.swapaxes(-1, -2) @ g, columns.shape).reshape(y.shape)


def _summed(g: Any, shape: tuple[int, ...]) -> Any:
    """Summed over what was broadcast from that shape."""
    g = np.asarray(g)
    if g.shape == shape:
        return g
    g = g.sum(tuple(range(g.ndim - len(shape)))) if g.ndim > len(shape) else g
    return np.broadcast_to(g.sum(tuple(i for i, size in enumerate(shape) if size == 1), keepdims=True), shape)


# ---- elements by their places -------------------------------------------------------------------------------------------------------------


def _with_axes(g: Any, axis: Any, keepdims: bool) -> Any:
    return g if axis is None or keepdims else np.expand_dims(g, axis)


def _own_index(index: Any) -> Any:
    return np.array(index) if isinstance(index, list | np.ndarray) else index


def _placed(g: Any, index: Any, like: Any) -> Any:
    """g at x[index], 0 elsewhere, sums where an element comes several times."""
    whole = np.zeros(like.shape, g.dtype)
    if isinstance(index, np.ndarray) and index.dtype != bool:
        add_rows(whole, index.reshape(-1), g.reshape(-1, *like.shape[1:]))
    elif isinstance(index, tuple) and any(isinstance(i, np.ndarray) for i in index):
        np.add.at(whole, index, g)
    else:
        whole[index] = g
    return whole


def add_rows(whole: Any, index: Any, rows: Any) -> None:
    """whole[index] += rows, where an index may come several times."""
    if not len(index):
        return
    index = index % len(whole)  # those from the end, too
    order = np.argsort(index, kind="stable")
    first = np.flatnonzero(np.diff(index[order], prepend=-1))
    whole[index[order[first]]] += np.add.reduceat(rows[order], first, axis=0)


def _where(keep: Any, x: Any, y: Any) -> Any:
    keep = untraced(keep)

    def pull(g: Any) -> list[Any]:
        sides = ((x, np.where(keep, g, 0)), (y, np.where(keep, 0, g)))
        return [_summed(part, side.shape) for side, part in sides if isinstance(side, Traced)]

    return Traced(np.where(keep, untraced(x), untraced(y)), tuple(side for side in (x, y) if isinstance(side, Traced)), pull)


def _extremum(x: Traced, extremes: Any, axis: Any, keepdims: bool) -> Traced:
    """The largest or smallest, a dimension of size 1 still where it was sought; equal ones, and NaN where there are some, share the gradient."""

    def pull(g: Any) -> tuple[Any]:
        found = (x.value == extremes) | (np.isnan(x.value) & np.isnan(extremes))
        g = g if keepdims else np.reshape(g, extremes.shape)
        return (np.where(found, g / np.maximum(found.sum(axis, keepdims=True), 1), 0),)

    return Traced(extremes if keepdims else extremes.squeeze(axis), (x,), pull)


def _clip(x: Traced, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """Bounds are numbers."""
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    if any(isinstance(bound, Traced) or np.ndim(bound) for bound in (low, high)):
        raise TypeError("slipstick.losses: numpy.clip has no derivative here where a bound is an array; expected numbers")
    inside = ~(x.value < (-np.inf if low is None else low)) & ~(x.value > (np.inf if high is None else high))
    return Traced(np.clip(x.value, low, high), (x,), lambda g: (np.where(inside, g, 0),))


def _einsum(subscripts: Any, *operands: Any, **options: Any) -> Any:
    """With the result's subscripts written out, and each of an operand's once in it; with '...' first in an operand, none of an operand alone."""
    if not isinstance(subscripts, str) or options:
        raise TypeError("slipstick.losses: numpy.einsum has no derivative here but by subscripts in a string, without options")
    left, arrow, into = subscripts.replace(" ", "").partition("->")
    names = left.split(",")
    others = [[into, *names[:i], *names[i + 1 :]] for i in range(len(names))]
    alone = [[letter for letter in each.strip(".") if not any(letter in other for other in others[i])] for i, each in enumerate(names)]
    dots = [each for each in (into, *names) if "." in each]
    if (
        not arrow
        or (dots and (any(alone) or not all(each.startswith("...") for each in dots)))
        or any(len(set(each.strip("."))) < len(each.strip(".")) for each in names)
    ):
        raise TypeError(
            f"slipstick.losses: numpy.einsum of {subscripts!r} has no derivative here; expected '->', no subscript twice in an operand, "
            "and '...' first, with none in one operand alone"
        )
    values = [untraced(operand) for operand in operands]
    traced = [i for i, operand in enumerate(operands) if isinstance(operand, Traced)]

    def of_operand(g: Any, i: int) -> Any:
        kept = "".join(letter for letter in names[i] if letter not in alone[i])
        kept = kept if "." in kept or not dots else "..." + kept
        part = np.einsum(f"{','.join(others[i])}->{kept}", g, *values[:i], *values[i + 1 :])
        if alone[i]:
            part = np.broadcast_to(np.expand_dims(part, [names[i].index(letter) for letter in alone[i]]), values[i].shape)
        return _summed(part, values[i].shape)

    return Traced(np.einsum(subscripts, *values), tuple(operands[i] for i in traced), lambda g: [of_operand(g, i) for i in traced])


def _concatenate(parts: Sequence[Any], axis: int = 0) -> Any:
    ends = np.cumsum([part.shape[axis] for part in parts])[:-1]
    traced = [i for i, part in enumerate(parts) if isinstance(part, Traced)]
    value = np.concatenate([untraced(part) for part in parts], axis)

    def pull(g: Any) -> list[Any]:
        split = np.split(g, ends, axis)
        return [split[i] for i in traced]

    return Traced(value, tuple(parts[i] for i in traced), pull)


def _stack(parts: Sequence[Any], axis: int = 0) -> Any:
    return _concatenate([part.reshape(np.expand_dims(untraced(part), axis).shape) for part in parts], axis)


def _log_cumulative_sum(x: Traced, axis: int) -> Any:
    """y_i = log sum_{j <= i} e^x_j along axis 1: dy_i / dx_j = e^(x_j - y_i), in factors of at most 1."""
    assert axis == 1
    y = np.logaddexp.accumulate(x.value, 1)

    def pull(g: Any) -> tuple[Any]:
        behind, total = np.array(g), np.zeros(len(g), g.dtype)
        falls = np.nan_to_num(np.exp(y[:, :-1] - y[:, 1:]))  # 0 after -inf, whose exponentials are 0
        for i in reversed(range(y.shape[1])):
            total = g[:, i] + (total * falls[:, i] if i + 1 < y.shape[1] else 0)
            behind[:, i] = total
        return (behind * np.nan_to_num(np.exp(x.value - y)),)

    return Traced(y, (x,), pull)


def _plain(function: Any) -> Any:
    return lambda x, *arguments, **options: function(untraced(x), *arguments, **options)


_FUNCTIONS: dict[Any, Any] = {
    np.amax: Traced.max,
    np.amin: Traced.min,
    np.clip: _clip,
    np.concatenate: _concatenate,
    np.cumsum: Traced.cumsum,
    np.einsum: _einsum,
    np.expand_dims: lambda x, axis: x.reshape(np.expand_dims(x.value, axis).shape),
    np.flip: lambda x, axis: Traced(np.flip(x.value, axis), (x,), lambda g: (np.flip(g, axis),)),
    np.full_like: _plain(np.full_like),
    np.max: Traced.max,
    np.mean: Traced.mean,
    np.min: Traced.min,
    np.reshape: Traced.reshape,
    np.stack: _stack,
    np.sum: Traced.sum,
    np.where: _where,
    np.zeros_like: _plain(np.zeros_like),
}
_KNOWN = sorted({each.__name__ for each in (*_RULES, *_FUNCTIONS)})
