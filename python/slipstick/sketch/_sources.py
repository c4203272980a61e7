"""Where rows come from when A is not one array: re-iterable sources of (X, y) or (X, y, weights), and a problem whose passes run over one.

A source is anything that can be iterated again and again with the same chunks: a list, one of the classes here, or a function without
arguments that returns a new iterator. Only one chunk is in memory at a time.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from slipstick._core import sketch as _core

from . import _arguments, _files

Array = np.ndarray[Any, Any]
Source = Iterable[Any] | Callable[[], Iterable[Any]]

CHUNK_BYTES = 1 << 26  # with less, a sketch of a chunk is one job, and other threads wait
CHUNK_ALIGNMENT = 512  # rows: a block of the streamed Hadamard transform
READS_IN_FLIGHT = 2  # of a chunk each: one leaves the disk idle between reads, more gain nothing


def _chunk_rows(where: str, rows: Any, row_bytes: int) -> int:
    if rows is not None:
        return _arguments.positive_integer(where, "rows", rows)
    return max(1, CHUNK_BYTES // max(1, row_bytes) // CHUNK_ALIGNMENT) * CHUNK_ALIGNMENT


class ArrayChunks:
    """Chunks of rows of arrays or memory maps, without a copy.

    Args:
        X: (n, d) array or list of rows; y: (n,) or (n, k); weights: None or (n,).
        rows: of a chunk; default 64 MiB of X.
    Raises:
        TypeError, ValueError: rows is no positive number, or lengths that differ.
    """

    def __init__(self, X: Any, y: Any, weights: Any = None, *, rows: int | None = None) -> None:  # noqa: N803
        self._parts = [part for part in (X, y, weights) if part is not None]
        for name, part in zip(("y", "weights"), self._parts[1:]):
            if len(part) != len(X):
                raise ValueError(f"ArrayChunks: {name} has {len(part)} rows; expected {len(X)}, the rows of X")
        self._rows = _chunk_rows("ArrayChunks", rows, np.asarray(X[:1]).nbytes)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(self._parts[0]), self._rows):
            yield tuple(part[start : start + self._rows] for part in self._parts)


class NpyChunks:
    """Chunks of rows of `.npy` files, the next two read by threads while one is used: memory stays at three chunks whatever the size of the files.

    Files are read past the system's cache unless they are in it, so that many passes over a file larger than memory cost no more than its disk takes.

    Args:
        X: path of a C-ordered (n, d) array; y: path of an (n,) or (n, k) array. Float32 or float64, of any byte order.
        rows: of a chunk; default 64 MiB of X.
    Raises:
        OSError: a file cannot be read.
        TypeError, ValueError: rows is no positive number, not such a file, or lengths that differ.
    Notes:
        A chunk is overwritten when the next one is asked for: copy what is kept.
    """

    def __init__(self, X: str | os.PathLike[str], y: str | os.PathLike[str], *, rows: int | None = None) -> None:  # noqa: N803
        self._paths = (os.fspath(X), os.fspath(y))
        self._heads = [self._head(path) for path in self._paths]
        lengths = [shape[0] for shape, _, _ in self._heads]
        if lengths[0] != lengths[1]:
            raise ValueError(f"NpyChunks: y has {lengths[1]} rows; expected {lengths[0]}, the rows of X")
        shape, dtype, _ = self._heads[0]
        self._rows = _chunk_rows("NpyChunks", rows, int(np.prod(shape[1:])) * dtype.itemsize)

    @staticmethod
    def _head(path: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            offset = file.tell()
        if (fortran and len(shape) > 1) or dtype.newbyteorder("=") not in (np.float32, np.float64) or len(shape) not in (1, 2):
            raise ValueError(f"NpyChunks: {path} is {dtype} of shape {shape}; expected float32 or float64 rows in C order")
        if os.path.getsize(path) < offset + int(np.prod(shape)) * dtype.itemsize:
            raise ValueError(f"NpyChunks: {path} is truncated; expected {int(np.prod(shape)) * dtype.itemsize} bytes of data")
        return shape, dtype, offset

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        n = self._heads[0][0][0]
        row_bytes = [int(np.prod(shape[1:])) * dtype.itemsize for shape, dtype, _ in self._heads]
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(contextlib.closing(_files.RangeFile(path))) for path in self._paths]
            readers = stack.enter_context(concurrent.futures.ThreadPoolExecutor(READS_IN_FLIGHT))  # left first: before its files are closed
            rooms = [[_files.RangeFile.room(min(self._rows, n) * size) for size in row_bytes] for _ in range(READS_IN_FLIGHT + 1)]

            def read(index: int) -> tuple[Array, Array]:
                first = index * self._rows
                rows = min(self._rows, n - first)
                X, y = (  # noqa: N806
                    file.read(room, offset + first * size, rows * size).view(dtype).reshape(rows, *shape[1:])
                    for file, room, size, (shape, dtype, offset) in zip(files, rooms[index % len(rooms)], row_bytes, self._heads)
                )
                return X, y

            count = -(-n // self._rows)
            coming = collections.deque(readers.submit(read, index) for index in range(min(READS_IN_FLIGHT, count)))
            for index in range(count):
                chunk = coming.popleft().result()
                if index + READS_IN_FLIGHT < count:
                    coming.append(readers.submit(read, index + READS_IN_FLIGHT))
                yield chunk


class ArrowChunks:
    """Record batches of Apache Arrow, or row groups of a Parquet file; needs pyarrow.

    Args:
        source: path of a Parquet file, or a re-iterable of pyarrow record batches (a list, or a Table's to_batches()).
        features: names of the columns of X, in order.
        target: name of the column of y.
    Raises:
        ValueError: a null in one of these columns.
    """

    def __init__(self, source: Any, features: Iterable[str], target: str) -> None:
        self._source, self._features, self._target = source, list(features), target

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        batches = self._source
        if isinstance(batches, str | os.PathLike):
            import pyarrow.parquet

            file = pyarrow.parquet.ParquetFile(batches)
            names = [*self._features, self._target]
            groups = (file.read_row_group(i, columns=names) for i in range(file.num_row_groups))
            batches = (batch for group in groups for batch in group.to_batches())
        for batch in batches:
            columns = [self._column(batch, name) for name in (*self._features, self._target)]
            block = np.empty((batch.num_rows, len(self._features)), order="F")
            for j, column in enumerate(columns[:-1]):
                block[:, j] = column
            yield block, np.asarray(columns[-1], np.float64)

    @staticmethod
    def _column(batch: Any, name: str) -> Array:
        column = batch.column(name)
        if column.null_count:
            raise ValueError(f"ArrowChunks: column {name!r} holds {column.null_count} nulls; expected none")
        return np.asarray(column.to_numpy(zero_copy_only=False))


def refuse_iterator(where: str, source: Source) -> None:
    if not callable(source) and iter(source) is source:
        raise ValueError(f"{where}: source is an iterator, which can be read once; expected a list, a source class or a function")


def raw_chunks(where: str, source: Source) -> Iterator[tuple[Any, Any, Any]]:
    """(X, y, weights or None) of each chunk.

    Raises:
        TypeError: a chunk that is not (X, y) or (X, y, weights).
    """
    for chunk in source() if callable(source) else source:
        if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
            raise TypeError(f"{where}: a chunk is {type(chunk).__name__}; expected (X, y) or (X, y, weights)")
        yield chunk[0], chunk[1], chunk[2] if len(chunk) == 3 else None


def checked_chunks(where: str, source: Source, columns: int, rights: int) -> Iterator[tuple[Array, Array, Array | None]]:
    """(A, b, scale) of each chunk: float arrays of shapes (n, columns), (n, rights), and square roots of weights.

    Raises:
        TypeError, ValueError: a chunk that is not (X, y) or (X, y, weights) of these shapes.
    """
    for X, y, weights in raw_chunks(where, source):  # noqa: N806
        yield checked_chunk(where, X, y, weights, columns, rights)


def checked_chunk(where: str, X: Any, y: Any, weights: Any, columns: int, rights: int) -> tuple[Array, Array, Array | None]:  # noqa: N803
    a = _arguments.matrix(where, "X", X)
    if a.shape[1] != columns:
        raise ValueError(f"{where}: X has {a.shape[1]} columns; expected {columns}")
    b = _arguments.matrix(where, "y", y, dimensions=(1, 2))
    if b.shape[0] != a.shape[0]:
        raise ValueError(f"{where}: y has {b.shape[0]} rows; expected {a.shape[0]}, the rows of X")
    b = b[:, None] if b.ndim == 1 else b
    if b.shape[1] != rights:
        raise ValueError(f"{where}: y has {b.shape[1]} columns; expected {rights}")
    return a, b, _arguments.row_scale(where, weights, a.shape[0])


class StreamedProblem:
    """The passes of `Problem` over a source of `rows` rows. Chunks are numbered by rows from 0 in the order of the source."""

    def __init__(self, where: str, source: Source, columns: int, rights: int, rows: int, ridge: float, threads: int) -> None:
        refuse_iterator(where, source)
        self.where, self.source, self.columns, self.rights = where, source, columns, rights
        self.ridge, self.threads = ridge, threads
        self.rows, self.passes = rows, 0
        self.exponents: tuple[int, int] | None = None  # binary, of X and y, by which passes divide them

    def _chunks(self) -> Iterator[tuple[Array, Array, Array | None]]:
        self.passes += 1
        rows = 0
        for a, b, scale in checked_chunks(self.where, self.source, self.columns, self.rights):
            rows += a.shape[0]
            if self.exponents:
                a, b = (np.ldexp(part.astype(np.float64), -exponent) for part, exponent in zip((a, b), self.exponents))
            yield a, b, scale
        if rows != self.rows:
            raise ValueError(f"{self.where}: source gave {rows} rows; expected {self.rows}, those of the state")

    def gram(self, inverse_r: Array | None = None) -> Array:
        d, size = self.columns, self.columns + self.rights
        total, part = np.zeros((size, size)), np.empty((size, size))
        inverse = None if inverse_r is None else np.ascontiguousarray(inverse_r)
        for a, b, scale in self._chunks():
            _core.gram(a, b, scale, inverse, part, self.threads)
            total += part
        if self.ridge:
            total[:d, :d] += self.ridge * (np.eye(d) if inverse is None else inverse.T @ inverse)
        return total

    def residual(self, x: Array) -> tuple[Array, Array]:
        total, squares = np.zeros(x.shape), np.zeros(x.shape[1])
        part, part_squares = np.empty(x.shape), np.empty(x.shape[1])
        at = np.ascontiguousarray(x)
        for a, b, scale in self._chunks():
            _core.residual(a, b, scale, at, part, part_squares, self.threads)
            total += part
            squares += part_squares
        if self.ridge:
            total -= self.ridge * x
            squares += self.ridge * np.sum(x * x, axis=0)
        return total, squares

    def sketch(self, kind: str, rows: int, nonzeros: int) -> Array:
        total, first = np.zeros((rows, self.columns + self.rights)), 0
        part = np.empty_like(total)
        for a, b, scale in self._chunks():
            _core.sketch(kind, 0, nonzeros, a, b, scale, first, part, self.threads)
            total += part
            first += a.shape[0]
        return total

    def blocks(self, rows: int) -> Iterator[Array]:
        d = self.columns
        for a, b, scale in self._chunks():
            for start in range(0, a.shape[0], rows):
                block = np.concatenate((a[start : start + rows], b[start : start + rows]), axis=1, dtype=np.float64)
                yield block if scale is None else block * scale[start : start + rows, None]
        if self.ridge:
            block = np.zeros((d, d + self.rights))
            block[:, :d] = np.sqrt(self.ridge) * np.eye(d)
            yield block

    def refuse_non_finite(self) -> None:
        start = 0
        for a, b, _ in self._chunks():
            for name, array in (("X", a), ("y", b)):
                bad = np.argwhere(~np.isfinite(array))
                if bad.size:
                    row, column = (int(i) for i in bad[0])
                    raise ValueError(
                        f"{self.where}: {name} is {array[row, column]} at row {start + row}, column {column}; expected finite numbers"
                    )
            start += a.shape[0]
