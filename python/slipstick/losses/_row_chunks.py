"""Losses that need more of a row of logits than its statistics: whole rows in chunks of bounded memory, recomputed in backward.

Costs four products of the size of the logits for a loss and its gradients (one more than with all logits in memory). The workspace
holds the logits of a chunk and what is computed from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

from slipstick._arguments import int64, is_torch

from . import _head
from ._arrays import (
    Array,
    astype,
    dtype_name,
    library,
    linear,
    new_zeros,
    required,
    stop_gradient,
    sums_by_class,
    taken,
    wide,
    without_autocast,
)
from ._labels import check_labels
from ._rows import check_head, check_reduction, reduce_losses
from ._traced import Traced, pulled_back, untraced

COPIES = 8  # arrays of the size of a chunk of logits that a loss and its backward hold at once

RowFunction = Callable[..., Array]


class ChunkedRows:
    """Functions of the logits of the rows that count, over one chunk after the other.

    A function stands at the top of a file of this folder, so that the operator finds it by name. It gets a chunk's logits, the
    chunk's labels where there are targets, its values where `map` is given some, and its parameters: numbers, in the order in which they are
    given, under the names that the caller of the loss knows. Gradients go to the heads only.
    """

    def __init__(
        self,
        name: str,
        hidden: Array,
        weight: Array,
        bias: Array | None,
        *,
        targets: Array | None,
        ignore_index: int,
        reduction: str,
        softcap: float | None,
        scale: float,
        workspace: int | None,
    ) -> None:
        check_reduction(name, reduction)
        required(name, targets=targets)
        ignore_index = int64(name, "ignore_index", ignore_index)
        hidden, weight, targets = check_head(name, hidden, weight, targets, bias)
        hidden, bias = taken(name, hidden=hidden, bias=bias)
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"{name}: bias has shape {tuple(bias.shape)}; expected {tuple(weight.shape[:1])}")
        cap = 0.0 if softcap is None else _head.number(name, "softcap", softcap)
        if softcap is not None and not 0 < cap < math.inf:
            raise ValueError(f"{name}: softcap is {softcap}; expected a positive number or None")
        factor = _head.number(name, "scale", scale)
        if not abs(factor) < math.inf:
            raise ValueError(f"{name}: scale is {scale}; expected a finite number")
        if not (hidden.is_floating_point() if is_torch(hidden) else dtype_name(hidden) in _head.FORMATS):
            raise TypeError(f"{name}: hidden has dtype {dtype_name(hidden)}; expected a floating one")
        budget = _head.workspace_bytes(name, workspace)
        self.shape = hidden.shape[:-1]
        self.reduction = reduction
        self.classes = weight.shape[0]
        self.dtype = wide(hidden)
        self.counts = None if targets is None else check_labels(name, targets, self.classes, ignore_index)
        self._name = name
        self._head = hidden.reshape(-1, hidden.shape[-1]), weight, bias
        self._counts = None if self.counts is None else self.counts.reshape(-1)
        self._labels = None if targets is None else targets.reshape(-1)
        self._options = cap, factor, max(1, budget // max(1, COPIES * self.classes * self.dtype.itemsize))

    @property
    def labels(self) -> Array:
        """Of all rows, in their shape; 0 in rows that do not count."""
        assert self._labels is not None and self._counts is not None
        return library(self._labels).where(self._counts, self._labels, 0).reshape(self.shape)

    def label_counts(self) -> Array:
        """How many rows that count have each class: (V,), of the type of the losses."""
        assert self.counts is not None
        return sums_by_class(self.labels.reshape(-1), astype(self.counts.reshape(-1), self.dtype), self.classes)

    def map(self, function: RowFunction, values: Array | None = None, **parameters: float) -> Array:
        """function of every row, in the shape of the rows; 0 in those that do not count. values: one number a row, without gradient."""
        return self._run(function, False, values, parameters).reshape(self.shape)

    def sum(self, function: RowFunction, **parameters: float) -> Array:
        """function of every chunk, a number for each class, summed up."""
        return self._run(function, True, None, parameters)

    def reduce(self, losses: Array) -> Array:
        return reduce_losses(losses, self.counts, self.reduction, self.dtype)

    def _run(self, function: RowFunction, summed: bool, values: Array | None, parameters: dict[str, float]) -> Array:
        numbers = [_head.number(self._name, name, parameter) for name, parameter in parameters.items()]
        where = f"{function.__module__.rpartition('.')[2]}:{function.__name__}"
        flat = None if values is None else stop_gradient(values).reshape(-1)
        arguments = *self._head, self._labels, self._counts, flat, where, numbers, summed, *self._options
        if not is_torch(self._head[0]):
            return row_losses(*arguments)
        from ._formula_operators import call

        return call("row_losses", *arguments)


class Chunks:
    """What row_losses is given, widened, without the rows that do not count."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        hidden, weight, bias, labels, counts, values, function, parameters, *options = arguments
        self.summed, self._softcap, self._scale, self.chunk_rows = options
        kind = wide(hidden)
        self.counts, self.rows = counts, len(hidden)
        self.head = [self.kept(astype(hidden, kind)), astype(weight, kind), None if bias is None else astype(bias, kind)]
        self._beside = [self.kept(x) for x in (labels, None if values is None else astype(values, kind)) if x is not None]
        self._parameters = parameters
        module, _, name = function.partition(":")
        self._function = getattr(import_module(f"{__package__}.{module}"), name)

    def kept(self, x: Array) -> Array:
        return x if self.counts is None else x[self.counts]

    def whole(self, x: Array) -> Array:
        """Rows that count put back among the others, which are 0."""
        if self.counts is None:
            return x
        result = new_zeros(x, (self.rows, *x.shape[1:]))
        result[self.counts] = x
        return result

    def slices(self) -> list[slice]:
        """At least one, so that an empty batch has a result of the right dtype."""
        return [slice(begin, begin + self.chunk_rows) for begin in range(0, max(1, len(self.head[0])), self.chunk_rows)]

    def parts(self, rows: slice) -> list[Any]:
        hidden, weight, bias = self.head
        return [hidden[rows], weight, bias]

    def losses(self, rows: slice, parts: list[Any]) -> Array:
        return self._function(self._logits(*parts), *(x[rows] for x in self._beside), *self._parameters)

    def _logits(self, hidden: Array, weight: Array, bias: Array | None) -> Array:
        logits = linear(hidden, weight, bias) * self._scale
        return logits if self._softcap == 0 else self._softcap * library(logits).tanh(logits / self._softcap)


def row_losses(*arguments: Any) -> Array:
    """head (3 arrays), labels, counts, values, function as "file:name", parameters, summed, softcap or 0, scale, rows of a chunk."""
    if any(isinstance(x, Traced) for x in arguments[:3]):
        return _traced_row_losses(arguments)
    rows, xp = Chunks(arguments), library(arguments[0])
    with without_autocast(arguments[0]):  # the backward, which computes them again, is outside of it
        results = [rows.losses(chunk, rows.parts(chunk)) for chunk in rows.slices()]
    return xp.stack(results).sum(0) if rows.summed else rows.whole(xp.concatenate(results))


def _traced_row_losses(arguments: tuple[Any, ...]) -> Array:
    """row_losses of NumPy arrays whose gradients are wanted; see _row_losses_backward of _formula_operators.py."""
    wanted = [at for at in range(3) if isinstance(arguments[at], Traced)]
    plain = tuple(map(untraced, arguments))

    def pull(gradient: Array) -> list[Array]:
        rows = Chunks(plain)
        along = gradient if rows.summed else rows.kept(gradient)
        totals = {at: new_zeros(rows.head[at], rows.head[at].shape) for at in wanted}
        for chunk in rows.slices():
            parts = [Traced(part) if at in wanted else part for at, part in enumerate(rows.parts(chunk))]
            here = pulled_back(rows.losses(chunk, parts), along if rows.summed else along[chunk], [parts[at] for at in wanted])
            for at, part in zip(wanted, here):
                if at == 0:
                    totals[at][chunk] = part
                else:
                    totals[at] += part
        return [rows.whole(totals[at]) if at == 0 else totals[at] for at in wanted]

    return Traced(row_losses(*plain), tuple(arguments[at] for at in wanted), pull)
