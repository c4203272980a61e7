"""Two heads of the same rows and classes by tiles of logits, side by side: how CUDA tensors go. As _tiles.py, whose sums and tiles these are.

Forward: a product of the size of each head's logits (of jensen_shannon two). Backward: the same again, and two for each head that gets gradients.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from ._tiles import GradientSums, RowKernels, Tile, TiledHead, multiply, statistics, steps, tile_shape

KINDS = {"kl": 0, "jensen_shannon": 1, "binary_kl": 2, "binary_kl_norm": 3}  # of DivergenceKind
Heads = tuple[TiledHead, TiledHead]
Gradients = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]  # by hidden, weight and bias of one head
Rows = torch.Tensor | None  # (rows,) float64; None for zeros


class TwoHeadKernels(RowKernels, Protocol):
    """What a device offers for two tiles."""

    def add_divergence(
        self, one: Tile, other: Tile, kind: str, mixture: float, lse: Rows, second_lse: Rows, first: bool, sums: torch.Tensor
    ) -> None:
        """Adds tiles to sums (6 or 2, rows) float64, see slipstick/losses_cuda.h."""

    def form_divergence_gradient(self, one: Tile, other: Tile, kind: str, mixture: float, rows: tuple[Rows, ...]) -> None:
        """Products become the gradients by them. rows: the fields of DivergenceCoefficients."""

    def combine(self, one: Tile, other: Tile | None, coefficient: float, least: Rows) -> None:
        """The first products become mapped logits, the second head's added."""

    def form_combined_gradient(
        self, one: Tile, other: Tile, coefficient: float, least: Rows, lse: torch.Tensor, by_lse: Rows, by_target: Rows
    ) -> None:
        """Products become the gradients by them."""


def _part(x: Rows, some: slice) -> Rows:
    return None if x is None else x[some]


def _shape(heads: Heads, more_bytes: int = 0) -> tuple[int, int]:
    one = heads[0]
    return tile_shape(one.hidden.shape[0], one.weight.shape[0], 2 * one.sum_type.itemsize + more_bytes, one.workspace)


def _tiles(heads: Heads, some: slice, columns: slice) -> tuple[Tile, Tile]:
    one, other = (Tile(head, some, columns, multiply(head.hidden[some], head.weight[columns].T)) for head in heads)
    return one, other


def _without(head: TiledHead, values: torch.Tensor) -> torch.Tensor:
    """0 in rows that are ignored, NaN where the target is no class; values (count, rows)."""
    if head.targets is None:
        return values
    wrong = (head.targets < 0) | (head.targets >= head.weight.shape[0])
    return values.masked_fill(wrong, torch.nan).masked_fill(head.targets == head.ignore_index, 0)


def divergence(heads: Heads, kind: str, mixture: float, kernels: TwoHeadKernels) -> tuple[torch.Tensor, ...]:
    """forward, reverse, lse and second_lse of DivergenceRows, (rows,) float64."""
    one = heads[0]
    rows, vocabulary = one.hidden.shape[0], one.weight.shape[0]
    sums = torch.zeros(6 if kind == "kl" else 2, rows, dtype=torch.float64, device=one.hidden.device)
    lse = second_lse = None
    if kind == "jensen_shannon":
        lse, second_lse = (statistics(head, False, kernels)["lse"] for head in heads)
    high, wide = _shape(heads)
    for columns in steps(vocabulary, wide):
        for some in steps(rows, high):
            tiles = _tiles(heads, some, columns)
            kernels.add_divergence(*tiles, kind, mixture, _part(lse, some), _part(second_lse, some), columns.start == 0, sums[:, some])
            del tiles  # before the next ones are made
    if kind == "kl":
        maximum, total, moment, second_maximum, second_total, second_moment = sums
        lse, second_lse = maximum + total.log(), second_maximum + second_total.log()
        forward, reverse = (lse - second_lse) - second_moment / second_total, moment / total - (lse - second_lse)
    else:
        forward, reverse = sums
    none = torch.zeros_like(forward)
    found = torch.stack((forward, reverse, none if lse is None else lse, none if second_lse is None else second_lse))
    return tuple(x.clone() for x in _without(one, found))


def _collect(heads: Heads, upstream: tuple[Rows, ...], out: tuple[Gradients, Gradients], form: Any) -> None:
    """form(rows, one tile, the other) turns products into the gradients by them."""
    one = heads[0]
    rows, vocabulary = one.hidden.shape[0], one.weight.shape[0]
    high, wide = _shape(heads, 2 * max(head.rounds for head in heads))
    unused = torch.ones(rows, dtype=torch.bool, device=one.hidden.device)
    for by in upstream:
        if by is not None:
            unused &= by == 0
    if (ignored := one.ignored()) is not None:
        unused |= ignored
    sums = [GradientSums(head, *wanted, unused, high) for head, wanted in zip(heads, out, strict=True)]
    for columns in steps(vocabulary, wide):
        for some in steps(rows, high):
            tiles = _tiles(heads, some, columns)
            form(some, *tiles)
            gradients = [tile.products for tile in tiles]
            del tiles
            for of_head in reversed(sums):  # so that each goes before the next is rounded
                dz = of_head.operand(columns, some, gradients.pop())
                of_head.add(columns, some, dz)
                del dz
    for of_head in sums:
        of_head.finish()


def divergence_gradients(
    heads: Heads,
    kind: str,
    mixture: float,
    values: tuple[torch.Tensor, ...],
    upstream: tuple[Rows, ...],
    out: tuple[Gradients, Gradients],
    kernels: TwoHeadKernels,
) -> None:
    """values: what divergence() gave; upstream: of each of them."""
    forward, reverse, lse, second_lse = values
    if kind == "kl":
        means: tuple[Rows, Rows] = (lse - second_lse - forward, lse - second_lse + reverse)
    elif kind == "jensen_shannon":
        means = (forward - (1 - mixture) * reverse) / mixture, reverse
    else:
        means = None, None
    shares = (lse, second_lse) if kind in ("kl", "jensen_shannon") else (None, None)

    def form(some: slice, one: Tile, other: Tile) -> None:
        rows = tuple(_part(x, some) for x in (*shares, *upstream, *means))
        kernels.form_divergence_gradient(one, other, kind, mixture, rows)

    _collect(heads, upstream, out, form)


def combined_statistics(heads: Heads, coefficient: float, least: Rows, kernels: TwoHeadKernels) -> tuple[torch.Tensor, torch.Tensor]:
    """Logit of the target (0 without targets) and log-sum-exp of the combined logits, (rows,) float64."""
    one, other = heads
    combined = TiledHead(one.hidden, one.weight, one.targets, None, None, "", 0.0, 1.0, one.ignore_index, one.workspace)

    def combine(some: slice, columns: slice, products: torch.Tensor) -> None:
        second = Tile(other, some, columns, multiply(other.hidden[some], other.weight[columns].T))
        kernels.combine(Tile(one, some, columns, products), second, coefficient, _part(least, some))

    found = statistics(combined, False, kernels, shape=_shape(heads), change=combine)
    return found["target"].clone(), found["lse"]


def combined_gradients(
    heads: Heads,
    coefficient: float,
    least: Rows,
    lse: torch.Tensor,
    by_lse: Rows,
    by_target: Rows,
    out: tuple[Gradients, Gradients],
    kernels: TwoHeadKernels,
) -> None:
    def form(some: slice, one: Tile, other: Tile) -> None:
        rows = _part(by_lse, some), _part(by_target, some)
        kernels.form_combined_gradient(one, other, coefficient, _part(least, some), lse[some], *rows)

    _collect(heads, (by_lse, by_target), out, form)


def kth_largest(head: TiledHead, k: int, kernels: TwoHeadKernels) -> tuple[torch.Tensor, torch.Tensor]:
    """Maximum and k-th largest logit, (rows,) float64; NaN where the row holds one. Logits of as many rows as fit the workspace are held."""
    rows, vocabulary = head.hidden.shape[0], head.weight.shape[0]
    maximum = torch.empty(rows, dtype=torch.float64, device=head.hidden.device)
    kth = torch.empty_like(maximum)
    row_bytes = vocabulary * head.sum_type.itemsize + k * (head.sum_type.itemsize + 8)  # topk gives indices, too
    everything = slice(0, vocabulary)
    for some in steps(rows, max(1, head.workspace // max(1, row_bytes))):
        logits = multiply(head.hidden[some], head.weight.T)
        kernels.combine(Tile(head, some, everything, logits), None, 0.0, None)
        most = logits.amax(1)
        maximum[some] = most
        kth[some] = torch.where(most.isnan(), most, logits.topk(k, sorted=False).values.amin(1))
        del logits
    maximum, kth = _without(head, torch.stack((maximum, kth)))
    return maximum.clone(), kth.clone()
