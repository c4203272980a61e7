"""The state of the rows of Dask arrays: states of the chunks, made where the chunks are, and merged in a tree."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from . import _streaming

MERGED_TOGETHER = 8  # states that one task adds: a sum of n states is a tree of depth log_8 n


class RowChunks:
    """The chunks of Dask arrays, as delayed rows.

    Raises:
        TypeError: X is not a Dask array.
        ValueError: the lengths of its chunks are not known, or those of the arrays differ.
    """

    def __init__(self, where: str, X: Any, y: Any, weight: Any) -> None:  # noqa: N803
        import dask.array

        if not isinstance(X, dask.array.Array) or X.ndim != 2:
            raise TypeError(f"{where}: X is {type(X).__name__}; expected a Dask array of two dimensions")
        sizes = X.chunks[0]
        if any(np.isnan(size) for size in sizes):
            raise ValueError(
                f"{where}: X has chunks of unknown length; expected known ones (X.compute_chunk_sizes(), or to_dask_array(lengths=True))"
            )
        self.rows = sum(sizes)
        self._sizes, self._parts = sizes, []
        for name, part in (("X", X), ("y", y), ("weight", weight)):
            if part is None:
                continue
            array = dask.array.asarray(part)
            if array.shape[:1] != (self.rows,):
                raise ValueError(f"{where}: {name} has shape {array.shape}; expected {self.rows} rows, those of X")
            self._parts.append(array.rechunk({0: sizes, **dict.fromkeys(range(1, array.ndim), -1)}).to_delayed().reshape(-1))

    def state(self, parameters: dict[str, Any], first: int) -> Any:
        """A SketchedLeastSquares of `parameters` that has seen all rows, numbered from `first`. The order of the sums follows from the chunks alone."""
        from dask.delayed import delayed

        starts = itertools.accumulate(self._sizes[:-1], initial=first)
        states = [delayed(_fitted)(parameters, int(start), *chunk) for start, *chunk in zip(starts, *self._parts)]
        while len(states) > 1:
            states = [delayed(_merged)(states[i : i + MERGED_TOGETHER]) for i in range(0, len(states), MERGED_TOGETHER)]
        return states[0].compute()


def _fitted(parameters: dict[str, Any], first: int, X: Any, y: Any, weight: Any = None) -> Any:  # noqa: N803
    try:
        return _streaming.SketchedLeastSquares(**parameters).partial_fit(X, y, weight, first_row=first)
    except ValueError as error:
        raise ValueError(f"{error} (in the chunk of rows {first} to {first + len(X) - 1})") from None


def _merged(states: list[Any]) -> Any:
    """A new state: Dask keeps the given ones."""
    total = _streaming.SketchedLeastSquares.from_bytes(states[0].to_bytes())
    for state in states[1:]:
        total.merge(state)
    return total
