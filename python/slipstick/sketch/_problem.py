"""A least-squares problem and the passes over it: min over x of |S (A x - b)|^2 + ridge |x|^2, S the square roots of the weights.

The ridge is handled as the rows sqrt(ridge) I under A and zeros under b, which no pass has to read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from slipstick._core import sketch as _core

from . import _arguments

Array = np.ndarray[Any, Any]


@dataclasses.dataclass
class Problem:
    where: str  # the public function, for messages
    A: Array  # [n, d]
    b: Array  # [n, k]
    scale: Array | None = None  # [n], square roots of weights
    ridge: float = 0.0
    seed: int = 0
    threads: int = 0
    passes: int = 0  # reads of A so far
    lost: int = 0  # degrees of freedom of the rows that were spent before

    @property
    def rows(self) -> int:
        return int(self.A.shape[0])

    @property
    def observations(self) -> int:
        """Degrees of freedom of the rows: those of a weight above 0, less what was lost."""
        return (self.rows if self.scale is None else int(np.count_nonzero(self.scale))) - self.lost

    @property
    def columns(self) -> int:
        return int(self.A.shape[1])

    @property
    def rights(self) -> int:
        return int(self.b.shape[1])

    def gram(self, inverse_r: Array | None = None) -> Array:
        """[W b]^T [W b] with W = A, or A inverse_r for an upper triangular inverse_r; shape (d + k, d + k), ridge included."""
        d = self.columns
        out = np.empty((d + self.rights,) * 2)
        inverse = None if inverse_r is None else np.ascontiguousarray(inverse_r)
        _core.gram(self.A, self.b, self.scale, inverse, out, self.threads)
        self.passes += 1
        if self.ridge:
            out[:d, :d] += self.ridge * (np.eye(d) if inverse is None else inverse.T @ inverse)
        return out

    def residual(self, x: Array) -> tuple[Array, Array]:
        """A^T (b - A x) - ridge x of shape (d, k), and the squared norms (k,) of the columns of b - A x, ridge rows included."""
        gradient, squares = np.empty(x.shape), np.empty(x.shape[1])
        _core.residual(self.A, self.b, self.scale, np.ascontiguousarray(x), gradient, squares, self.threads)
        self.passes += 1
        if self.ridge:
            gradient -= self.ridge * x
            squares += self.ridge * np.sum(x * x, axis=0)
        return gradient, squares

    def sketch(self, kind: str, rows: int, nonzeros: int) -> Array:
        """S [A b] of shape (rows, d + k), without the ridge."""
        out = np.empty((rows, self.columns + self.rights))
        _core.sketch(kind, self.seed, nonzeros, self.A, self.b, self.scale, 0, out, self.threads)
        self.passes += 1
        return out

    def blocks(self, rows: int) -> Iterator[Array]:
        """[A b], scaled, in new float64 arrays of at most `rows` rows in Fortran order; then the rows of the ridge."""
        self.passes += 1
        d = self.columns
        for start in range(0, self.rows, rows):
            stop = min(start + rows, self.rows)
            block = np.empty((stop - start, d + self.rights), order="F")
            block[:, :d] = self.A[start:stop]
            block[:, d:] = self.b[start:stop]
            if self.scale is not None:
                block *= self.scale[start:stop, None]
            yield block
        yield from self.ridge_rows()

    def ridge_rows(self) -> Iterator[Array]:
        if self.ridge:
            d = self.columns
            block = np.zeros((d, d + self.rights), order="F")
            block[:, :d] = np.sqrt(self.ridge) * np.eye(d)
            yield block

    def rows_at(self, picked: Array) -> Array:
        """Rows of A, scaled, in float64."""
        rows = self.A[picked].astype(np.float64)
        return rows if self.scale is None else rows * self.scale[picked, None]

    def homogeneous(self) -> Problem:
        """The same with b = 0, which takes no memory; its passes are counted anew."""
        return dataclasses.replace(self, b=np.broadcast_to(np.zeros((1, 1)), self.b.shape), passes=0)

    def brought_near_one(self, of_a: int, of_b: int) -> Problem:
        """The problem of A 2^-of_a and b 2^-of_b."""
        return dataclasses.replace(
            self,
            A=np.ldexp(self.A.astype(np.float64), -of_a),
            b=np.ldexp(self.b.astype(np.float64), -of_b),
            ridge=float(np.ldexp(self.ridge, -2 * of_a)),
        )

    def refuse_non_finite(self) -> None:
        _arguments.refuse_non_finite(self.where, "A", self.A)
        _arguments.refuse_non_finite(self.where, "b", self.b)
