"""Statistics of a head and their gradients by tiles of logits: torch multiplies, kernels of the rows of a tile do the rest. How CUDA tensors go.

Tiles are columns of the vocabulary, of all rows where the workspace has room for kSegmentColumns of them, else of some. Forward: one product of
the size of the logits. Backward: the same again, and two. Every sum is taken in a fixed order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
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

    def form_gradient(self, tile: Tile, coefficients: Coefficients, out: torch.Tensor) -> None:
        """The gradient by the products, into out of their shape: themselves, or bfloat16."""


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


def _steps(count: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, count)) for first in range(0, count, step))


def tile_shape(rows: int, vocabulary: int, bytes_of_logit: int, workspace: int) -> tuple[int, int]:
    """Rows and columns of a tile, at least one of each."""
    columns = workspace // max(1, rows * bytes_of_logit) // SEGMENT_COLUMNS * SEGMENT_COLUMNS
    if columns > 0:
        return max(1, rows), min(columns, max(1, vocabulary))
    columns = min(SEGMENT_COLUMNS, max(1, vocabulary))
    some = max(1, workspace // (columns * bytes_of_logit))
    return (some // MANY_ROWS * MANY_ROWS or some), columns


def statistics(head: TiledHead, everything: bool, kernels: RowKernels, topk: int = 0) -> dict[str, torch.Tensor]:
    """By name, (rows,) in float64 (argmax int64), top_values and top_indices (rows, topk). everything: mean, second_moment and expected too."""
    hidden, weight = head.hidden, head.weight
    rows, vocabulary = hidden.shape[0], weight.shape[0]
    sums = torch.empty(6, rows, dtype=torch.float64, device=hidden.device)
    argmax = torch.empty(rows, dtype=torch.int64, device=hidden.device)
    top_values = torch.empty(rows, topk, dtype=torch.float64, device=hidden.device)
    top_indices = torch.empty(rows, topk, dtype=torch.int64, device=hidden.device)
    high, wide = tile_shape(rows, vocabulary, head.sum_type.itemsize, head.workspace)
    for columns in _steps(vocabulary, wide):
        for some in _steps(rows, high):
            products = multiply(hidden[some], weight[columns].T)
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


def gradients(
    head: TiledHead,
    coefficients: Coefficients,
    by_hidden: torch.Tensor | None,
    by_weight: torch.Tensor | None,
    by_bias: torch.Tensor | None,
    kernels: RowKernels,
) -> None:
    """Into by_hidden, by_weight and by_bias, of the shapes and types of these (by_bias of the sums'). None is not wanted."""
    hidden, weight = head.hidden, head.weight
    rows, vocabulary = hidden.shape[0], weight.shape[0]
    ignored = head.ignored()
    if by_weight is not None and ignored is not None:
        hidden = hidden.masked_fill(ignored[:, None], 0)  # 0 times NaN of an ignored row is meant as 0
    # bfloat16 has the range of float32: its gradients by logits are rounded once, as operands. float16 has not.
    rounds = hidden.dtype == torch.bfloat16
    bytes_of_logit = head.sum_type.itemsize + 2 * rounds
    high, wide = tile_shape(rows, vocabulary, bytes_of_logit, head.workspace)
    in_place = by_hidden is not None and by_hidden.dtype == head.sum_type
    to_hidden = by_hidden if in_place or by_hidden is None else torch.empty(hidden.shape, dtype=head.sum_type, device=hidden.device)
    if to_hidden is not None:
        to_hidden.zero_()
    for x in (by_weight, by_bias):
        if x is not None and rows == 0:
            x.zero_()
    for columns in _steps(vocabulary, wide):
        classes = weight[columns]
        to_weight = None  # the sum over chunks of rows
        for some in _steps(rows, high):
            products = multiply(hidden[some], classes.T)
            tile, of_rows = Tile(head, some, columns, products), coefficients.of_rows(some)
            if by_bias is not None:
                kernels.form_gradient(tile, of_rows, products)
                if some.start == 0:
                    torch.sum(products, 0, out=by_bias[columns])
                else:
                    by_bias[columns].add_(products.sum(0))
                dz = products.to(torch.bfloat16) if rounds else products
            else:
                dz = torch.empty(products.shape, dtype=torch.bfloat16, device=hidden.device) if rounds else products
                kernels.form_gradient(tile, of_rows, dz)
            del tile, products
            operand = hidden[some] if dz.dtype == hidden.dtype else hidden[some].to(dz.dtype)
            if to_hidden is not None:
                to_hidden[some].add_(multiply(dz, classes if dz.dtype == classes.dtype else classes.to(dz.dtype)))
            if by_weight is not None and high >= rows and dz.dtype == by_weight.dtype:
                torch.mm(dz.T, operand, out=by_weight[columns])
            elif by_weight is not None:
                part = multiply(dz.T, operand)
                to_weight = part if to_weight is None else to_weight.add_(part)
            del dz, operand
        if by_weight is not None and to_weight is not None:
            by_weight[columns] = to_weight
    if by_hidden is not None and to_hidden is not None and not in_place:
        by_hidden.copy_(to_hidden)
    if by_hidden is not None and ignored is not None:
        by_hidden.masked_fill_(ignored[:, None], 0)  # 0 times NaN or infinity of a class, too
