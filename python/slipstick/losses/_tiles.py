"""Statistics of a head and their gradients by tiles of logits: torch multiplies, kernels of the rows of a tile do the rest. How CUDA tensors go.

Tiles are columns of the vocabulary, of all rows where the workspace has room for kSegmentColumns of them, else of some. Forward: one product of
the size of the logits. Backward: the same again, and two, with a filter as without one: it leaves elements out of the sums, and no product. Every
sum is taken in a fixed order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

SEGMENT_COLUMNS = 1024  # of the kernels: tiles that begin at multiples of it give the same bits whatever their size
MANY_ROWS = 128  # products of fewer rows are slow


@dataclasses.dataclass
class TiledHead:
    """A head's tensors, checked, and its options. bias, targets and factor lie without gaps; bias has the type of the sums, factor float64."""

    hidden: torch.Tensor
    weight: torch.Tensor
    targets: torch.Tensor | None
    bias: torch.Tensor | None
    factor: torch.Tensor | None
    map: str
    cap: float
    scale: float
    ignore_index: int
    workspace: int

    @property
    def sum_type(self) -> torch.dtype:
        return torch.float64 if self.hidden.dtype == torch.float64 else torch.float32

    @property
    def rounds(self) -> bool:
        """Whether gradients by logits are rounded once, as operands. bfloat16 has the range of float32 for that; float16 has not."""
        return self.hidden.dtype == torch.bfloat16

    def ignored(self) -> torch.Tensor | None:
        return None if self.targets is None else self.targets == self.ignore_index


@dataclasses.dataclass
class Tile:
    """Products of some rows and classes of a head."""

    head: TiledHead
    rows: slice
    columns: slice
    products: torch.Tensor

    @property
    def targets(self) -> torch.Tensor | None:
        return None if self.head.targets is None else self.head.targets[self.rows]


@dataclasses.dataclass
class Coefficients:
    """dz = p (a + b z) + c z + d + sum_k value_k [j == index_k]: (rows,) float64, index and value (rows, entries); None for zeros."""

    lse: torch.Tensor | None
    a: torch.Tensor | None
    b: torch.Tensor | None
    c: torch.Tensor | None
    d: torch.Tensor | None
    index: torch.Tensor | None
    value: torch.Tensor | None

    def of_rows(self, rows: slice) -> Coefficients:
        parts = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Coefficients(*(None if part is None else part[rows] for part in parts))


class RowKernels(Protocol):
    """What a device offers for a tile."""

    def add_statistics(self, tile: Tile, first: bool, everything: bool, sums: torch.Tensor, argmax: torch.Tensor) -> None:
        """Adds a tile to sums (6, rows) float64 and argmax (rows,), see slipstick/losses_cuda.h."""

    def add_tops(self, tile: Tile, first: bool, values: torch.Tensor, indices: torch.Tensor) -> None:
        """Adds a tile to the sorted lists of the largest logits, (rows, topk) float64 and int64."""

    def form_gradient(
        self, tile: Tile, coefficients: Coefficients, filter_eps: float, dropped: torch.Tensor | None, out: torch.Tensor
    ) -> None:
        """The gradient by the products, into out of their shape: themselves, or bfloat16. What a filter drops is added to dropped (rows,) float64."""


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b in the type of the sums, which 16-bit operands need a product of its own for."""
    if a.dtype.itemsize > 2:
        return torch.mm(a, b)
    if a.device.type != "cuda":
        return torch.mm(a.float(), b.float())
    return torch.ops.aten.mm.dtype(a, b, torch.float32)


def without_autocast(x: torch.Tensor) -> Any:
    """While it lives, torch multiplies in the types that it is given."""
    return torch.autocast(x.device.type, enabled=False)


def steps(count: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def tile_shape(rows: int, vocabulary: int, bytes_of_logit: int, workspace: int) -> tuple[int, int]:
    """Rows and columns of a tile, at least one of each."""
    columns = workspace // max(1, rows * bytes_of_logit) // SEGMENT_COLUMNS * SEGMENT_COLUMNS
    if columns > 0:
        return max(1, rows), min(columns, max(1, vocabulary))
    columns = min(SEGMENT_COLUMNS, max(1, vocabulary))
    some = max(1, workspace // (columns * bytes_of_logit))
    return (some // MANY_ROWS * MANY_ROWS or some), columns


def statistics(
    head: TiledHead,
    everything: bool,
    kernels: RowKernels,
    topk: int = 0,
    *,
    shape: tuple[int, int] | None = None,
    change: Callable[[slice, slice, torch.Tensor], None] | None = None,
) -> dict[str, torch.Tensor]:
    """By name, (rows,) in float64 (argmax int64), top_values and top_indices (rows, topk). everything: mean, second_moment and expected too.

    shape: rows and columns of a tile. change(rows, columns, products): what is done to the products before they count.
    """
    hidden, weight = head.hidden, head.weight
    rows, vocabulary = hidden.shape[0], weight.shape[0]
    sums = torch.empty(6, rows, dtype=torch.float64, device=hidden.device)
    argmax = torch.empty(rows, dtype=torch.int64, device=hidden.device)
    top_values = torch.empty(rows, topk, dtype=torch.float64, device=hidden.device)
    top_indices = torch.empty(rows, topk, dtype=torch.int64, device=hidden.device)
    high, wide = shape or tile_shape(rows, vocabulary, head.sum_type.itemsize, head.workspace)
    for columns in steps(vocabulary, wide):
        for some in steps(rows, high):
            products = multiply(hidden[some], weight[columns].T)
            if change is not None:
                change(some, columns, products)
            tile = Tile(head, some, columns, products)
            kernels.add_statistics(tile, columns.start == 0, everything, sums[:, some], argmax[some])
            if topk > 0:
                kernels.add_tops(tile, columns.start == 0, top_values[some], top_indices[some])
            del tile, products  # before the next one is made
    maximum, total, weighted, first, second, target = sums
    found = {
        "target": target,
        "lse": maximum + total.log(),
        "mean": first / vocabulary,
        "second_moment": second / vocabulary,
        "expected": maximum + weighted / total,
        "maximum": torch.where(total.isnan(), total, maximum),
        "argmax": argmax,
        "top_values": top_values,
        "top_indices": top_indices,
    }
    ignored = head.ignored()
    if ignored is not None:
        found = {
            name: x.masked_fill(ignored if x.ndim == 1 else ignored[:, None], 0 if x.dtype.is_floating_point else -1)
            for name, x in found.items()
        }
    return found


class GradientSums:
    """A head's gradients, out of those by the products of its tiles: of each step of columns, those of all rows. None is not wanted."""

    def __init__(
        self,
        head: TiledHead,
        by_hidden: torch.Tensor | None,
        by_weight: torch.Tensor | None,
        by_bias: torch.Tensor | None,
        unused: torch.Tensor | None,
        high: int,
    ) -> None:
        """unused: which rows have a gradient of 0, whatever is in them. high: the rows of a tile."""
        self.head, self.by_hidden, self.by_weight, self.by_bias = head, by_hidden, by_weight, by_bias
        hidden = head.hidden
        self.unused, self.all_at_once = unused, high >= hidden.shape[0]
        # 0 times NaN of an unused row is meant as 0.
        self.hidden = hidden if by_weight is None or unused is None else hidden.masked_fill(unused[:, None], 0)
        in_place = by_hidden is None or by_hidden.dtype == head.sum_type
        self.to_hidden = by_hidden if in_place else torch.empty(hidden.shape, dtype=head.sum_type, device=hidden.device)
        self.to_weight: torch.Tensor | None = None  # the sum over steps of rows
        if self.to_hidden is not None:
            self.to_hidden.zero_()
        for x in (by_weight, by_bias):
            if x is not None and hidden.shape[0] == 0:
                x.zero_()

    def operand(self, columns: slice, some: slice, dz: torch.Tensor) -> torch.Tensor:
        """What add() takes, from a gradient in the type of the sums, which goes to the bias."""
        if self.by_bias is not None and some.start == 0:
            torch.sum(dz, 0, out=self.by_bias[columns])
        elif self.by_bias is not None:
            self.by_bias[columns].add_(dz.sum(0))
        return dz.to(torch.bfloat16) if self.head.rounds else dz

    def add(self, columns: slice, some: slice, dz: torch.Tensor) -> None:
        classes = self.head.weight[columns]
        if self.to_hidden is not None:
            self.to_hidden[some].add_(multiply(dz, classes if dz.dtype == classes.dtype else classes.to(dz.dtype)))
        if self.by_weight is None:
            return
        operand = self.hidden[some] if dz.dtype == self.hidden.dtype else self.hidden[some].to(dz.dtype)
        if self.all_at_once and dz.dtype == self.by_weight.dtype:
            torch.mm(dz.T, operand, out=self.by_weight[columns])
            return
        part = multiply(dz.T, operand)
        self.to_weight = part if self.to_weight is None else self.to_weight.add_(part)
        if some.stop == self.hidden.shape[0]:
            self.by_weight[columns], self.to_weight = self.to_weight, None

    def spread(self, even: torch.Tensor) -> None:
        """The same number to all classes of a row: even (rows,) float64, with the scale."""
        kind = self.head.sum_type
        if self.unused is not None:
            even = even.masked_fill(self.unused, 0)
        if self.to_hidden is not None:
            self.to_hidden.addr_(even.to(kind), self.head.weight.sum(0, dtype=torch.float64).to(kind))
        if self.by_bias is not None:
            self.by_bias.add_(even.sum().to(kind))
        if self.by_weight is None:
            return
        rows, width = self.hidden.shape
        tail = torch.zeros(width, dtype=torch.float64, device=even.device)
        for some in steps(rows, max(1, self.head.workspace // max(1, width * 8))):
            tail.add_(torch.mv(self.hidden[some].to(torch.float64).T, even[some]))
        self.by_weight.add_(tail)

    def finish(self) -> None:
        if self.by_hidden is None or self.to_hidden is None:
            return
        if self.to_hidden is not self.by_hidden:
            self.by_hidden.copy_(self.to_hidden)
        if self.unused is not None:
            self.by_hidden.masked_fill_(self.unused[:, None], 0)  # 0 times NaN or infinity of a class, too


def gradients(
    head: TiledHead,
    coefficients: Coefficients,
    by_hidden: torch.Tensor | None,
    by_weight: torch.Tensor | None,
    by_bias: torch.Tensor | None,
    kernels: RowKernels,
    filter_eps: float = 0.0,
) -> torch.Tensor | None:
    """Into by_hidden, by_weight and by_bias, of the shapes and types of these (by_bias of the sums'). None is not wanted. With a filter, the sum of what
    it dropped of each row, (rows,) float64.

    A gradient with c, or with d behind a map, is small nowhere and is taken exactly.
    """
    rows, vocabulary = head.hidden.shape[0], head.weight.shape[0]
    if coefficients.c is not None or (head.map and coefficients.d is not None):
        filter_eps = 0.0
    dropped, d = None, coefficients.d
    if filter_eps > 0:
        dropped = torch.zeros(rows, dtype=torch.float64, device=head.hidden.device)
        coefficients = dataclasses.replace(coefficients, d=None)  # it travels with what was dropped
    high, wide = tile_shape(rows, vocabulary, head.sum_type.itemsize + 2 * head.rounds, head.workspace)
    sums = GradientSums(head, by_hidden, by_weight, by_bias, head.ignored(), high)
    for columns in steps(vocabulary, wide):
        for some in steps(rows, high):
            products = multiply(sums.hidden[some], head.weight[columns].T)
            tile, of_rows = Tile(head, some, columns, products), coefficients.of_rows(some)
            rounded = head.rounds and by_bias is None
            dz = torch.empty(products.shape, dtype=torch.bfloat16, device=products.device) if rounded else products
            kernels.form_gradient(tile, of_rows, filter_eps, None if dropped is None else dropped[some], dz)
            del tile, products  # before there are more
            if not rounded:
                dz = sums.operand(columns, some, dz)
            sums.add(columns, some, dz)
            del dz
    if dropped is not None:
        even = dropped / vocabulary if d is None else dropped / vocabulary + d
        even = even * head.scale
        sums.spread(even if head.factor is None else even * head.factor)
    sums.finish()
    return dropped
