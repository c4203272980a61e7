"""`SketchedLeastSquares`: a least-squares problem kept as a sketch and a Gram matrix, which grow by chunks, merge and travel."""

from __future__ import annotations

import functools
import json
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from slipstick._core import sketch as _core

from . import _arguments, _dense, _lstsq, _operators, _sketch_and_solve, _solvers, _sources
from ._certificate import Certificate

Array = np.ndarray[Any, Any]

MAGIC = b"slipsketch\x00\x02"  # the last byte is the version of the format
DEFAULT_ROWS_A_COLUMN = 8
Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")
PARAMETERS = ("columns", "targets", "kind", "rows", "seed")  # equal in states that merge


def _alone(
    method: Callable[Concatenate[SketchedLeastSquares, Arguments], Returned],
) -> Callable[Concatenate[SketchedLeastSquares, Arguments], Returned]:
    """The method, which waits while another thread is in one of the same state."""

    @functools.wraps(method)
    def alone(self: SketchedLeastSquares, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> Returned:
        with self._lock:
            return method(self, *arguments, **named)

    return alone


class SketchedLeastSquares:
    """The state of a least-squares problem whose rows arrive in chunks, on one machine or many.

    It holds S [A b] and [A b]^T [A b]: (rows + d + k) (d + k) doubles, whatever the number of rows of A. States of one seed and one set of
    parameters merge by addition, as S is keyed by the global number of a row. Threads may share a state: its methods wait for each other.

    Args:
        columns: d.
        targets: None for y of shape (n,), or k for y of shape (n, k).
        kind, seed: as in `sketch`.
        rows: of the sketch; default 8 d, at least d + 16.
        threads: as in `lstsq`; not part of the state's value.
    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        columns: int,
        *,
        targets: int | None = None,
        kind: str = "srht",
        rows: int | None = None,
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        where = "SketchedLeastSquares"
        self.columns = _arguments.positive_integer(where, "columns", columns)
        self.targets = None if targets is None else _arguments.positive_integer(where, "targets", targets)
        self.kind = _arguments.one_of(where, "kind", kind, _operators.KINDS)
        least = self.columns + 1
        count = max(DEFAULT_ROWS_A_COLUMN * self.columns, self.columns + 16) if rows is None else _arguments.integer(where, "rows", rows)
        if count < least:
            raise ValueError(f"{where}: rows is {count}; expected {least} or more, one above columns")
        self.rows = count
        self.seed = _arguments.seed_of(where, seed)
        self._threads = _arguments.thread_count(where, threads)
        size = self.columns + self._rights
        self._sketch, self._gram = np.zeros((self.rows, size)), np.zeros((size, size))
        self._ranges: list[tuple[int, int]] = []
        self._observations = 0  # rows seen of a weight above 0
        self._lock = threading.RLock()

    @property
    def _rights(self) -> int:
        return 1 if self.targets is None else self.targets

    @property
    def rows_seen(self) -> int:
        return sum(stop - start for start, stop in self._ranges)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Global numbers of the rows seen: disjoint half-open ranges in order."""
        return list(self._ranges)

    @_alone
    def partial_fit(self, X: Any, y: Any, weight: Any = None, *, first_row: int | None = None) -> SketchedLeastSquares:  # noqa: N803
        """Adds rows.

        Args:
            X: (n, d); y: (n,) or (n, k), as targets says; weight: None or (n,), 0 or more.
            first_row: global number of the first of them; default the one after the highest seen. Give it when several states are to merge.
        Returns:
            self.
        Raises:
            TypeError, ValueError: shapes or dtypes that do not fit, NaN or infinity, or row numbers that were seen before. The state is
                unchanged then.
        """
        where = "partial_fit"
        a, b, scale = _sources.checked_chunk(where, X, y, weight, self.columns, self._rights)
        first = self._first(where, first_row)
        ranges = _joined(where, self._ranges, [(first, first + a.shape[0])] if a.shape[0] else [])
        gram, sketched = np.empty_like(self._gram), np.empty_like(self._sketch)
        _core.gram(a, b, scale, None, gram, self._threads)
        if not np.isfinite(gram).all():
            _arguments.refuse_non_finite(where, "X", a)
            _arguments.refuse_non_finite(where, "y", b)
            raise ValueError(f"{where}: X or y has entries whose squares overflow; expected magnitudes below 1e150")
        kind, nonzeros = _operators.core_kind(self.kind, self.rows)
        _core.sketch(kind, self.seed, nonzeros, a, b, scale, first, sketched, self._threads)
        self._gram += gram
        self._sketch += sketched
        self._observations += a.shape[0] if scale is None else int(np.count_nonzero(scale))
        self._ranges = ranges
        return self

    def merge(self, other: SketchedLeastSquares) -> SketchedLeastSquares:
        """Adds the rows of another state; returns self.

        Raises:
            TypeError: other is not such a state.
            ValueError: other parameters, or a row number that both have seen.
        """
        if not isinstance(other, SketchedLeastSquares):
            raise TypeError(f"merge: other is {type(other).__name__}; expected SketchedLeastSquares")
        for name in PARAMETERS:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(f"merge: {name} is {getattr(other, name)!r} in other; expected {getattr(self, name)!r}")
        first, second = sorted((self, other), key=id)  # one order for all threads, or two that merge both ways would wait for ever
        with first._lock, second._lock:
            ranges = _joined("merge", self._ranges, other._ranges)
            self._gram = self._gram + other._gram
            self._sketch = self._sketch + other._sketch
            self._observations += other._observations
            self._ranges = ranges
        return self

    @_alone
    def partial_fit_dask(self, X: Any, y: Any, weight: Any = None, *, first_row: int | None = None) -> SketchedLeastSquares:  # noqa: N803
        """Adds the rows of Dask arrays: states of the chunks are made where the chunks are, by the scheduler or client in force, and merged in a
        tree. (rows + d + k) (d + k) doubles travel a chunk. The same bits for any number of workers.

        Args:
            X: (n, d) Dask array in chunks of rows of known lengths; y, weight: as in `partial_fit`, as Dask or NumPy arrays. Chunks of srht states cost least
                when they begin and end at multiples of 512 rows.
            first_row: as in `partial_fit`.
        Returns:
            self.
        Raises:
            TypeError: X is not a Dask array.
            ValueError: as `partial_fit`, or chunks of unknown length. The state is unchanged then.
        """
        from . import _dask

        where = "partial_fit_dask"
        chunks, first = _dask.RowChunks(where, X, y, weight), self._first(where, first_row)
        if chunks.rows:
            _joined(where, self._ranges, [(first, first + chunks.rows)])  # before any work
        parameters = {name: getattr(self, name) for name in PARAMETERS}
        return self.merge(chunks.state({**parameters, "threads": self._threads or None}, first))

    def _first(self, where: str, first_row: Any) -> int:
        """The checked global number of the first new row."""
        return _arguments.first_row(where, "first_row", (self._ranges[-1][1] if self._ranges else 0) if first_row is None else first_row)

    @_alone
    def all_reduce(self, group: Any = None) -> SketchedLeastSquares:
        """Merges the states of all processes of a torch.distributed group, in each of them; returns self. (rows + d + k) (d + k) doubles travel.

        Args:
            group: a process group whose backend takes CPU tensors, such as gloo; None for the default one.
        Raises:
            ValueError: other parameters on another process, or a row number that two have seen; on every process, states unchanged.
        """
        import torch
        import torch.distributed

        mine = ({name: getattr(self, name) for name in PARAMETERS}, self._ranges, self._observations)
        gathered: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(gathered, mine, group=group)
        ranges: list[tuple[int, int]] = []
        for parameters, seen, _ in gathered:
            for name in PARAMETERS:
                if parameters[name] != gathered[0][0][name]:
                    raise ValueError(f"all_reduce: {name} is {parameters[name]!r} on one process; expected {gathered[0][0][name]!r}")
            ranges = _joined("all_reduce", ranges, seen)
        for values in (self._sketch, self._gram):
            torch.distributed.all_reduce(torch.from_numpy(values), group=group)
        self._observations = sum(observations for _, _, observations in gathered)
        self._ranges = ranges
        return self

    @_alone
    def solve(self, *, ridge: float = 0.0) -> _lstsq.LstsqResult:
        """The solution that the state knows: from the Gram matrix where its condition allows (up to 1.5e7), else from the sketch.

        Returns:
            LstsqResult of method "gram" or "sketch". backward_error is an upper estimate: the state alone cannot tell rounding from error, so
            by "gram" it is near eps times the condition; by "sketch" it is that of an approximate solution. residual_norm, a difference of
            squares, is without a ridge never below sqrt(eps) |b| = 1.5e-8 |b|, and so standard_errors have a floor too. `refine` gives full accuracy.
        Raises:
            ValueError: ridge is out of range, or the rank is deficient (of the sketch and the Gram matrix, with the ridge).
        """
        where = "solve"
        ridge = _arguments.non_negative(where, "ridge", ridge)
        d = self.columns
        gram = self._gram.copy()
        gram[:d, :d] += ridge * np.eye(d)
        factored = _solvers.gram_factor(gram, d)
        if factored is not None:
            r, exponents = factored
            x = _solvers.solve_by_factor(r, exponents, gram[:d, d:])
            certificate, method = self._certificate(gram, np.ldexp(r, exponents)), "gram"
        else:
            sketched = _sketch_and_solve.solve_sketched(where, self._sketch, d, ridge, flat=False)
            below = np.zeros((d, d))
            np.fill_diagonal(below, np.sqrt(ridge))
            factor = _dense.triangular_factor([self._sketch[:, :d], below], d)
            x, certificate, method = sketched.x, self._certificate(gram, factor), "sketch"
        squares, error = self._measured(gram, certificate, x)
        solution = _solvers.Solution(x, squares, error, certificate, method, d)
        return self._result(solution, ridge, passes=0)

    @_alone
    def certificate(self, x: Any, *, ridge: float = 0.0) -> float:
        """Upper estimate of the backward error of x, (d,) or (d, k), from the state alone: Karlson and Walden 1997, the rounding of the Gram
        matrix added to the gradient. Not below about eps times the condition; `refine` measures it on the data.

        Raises:
            ValueError: x has another shape, or ridge is out of range. A deficient rank is no error.
        """
        where = "certificate"
        values = _arguments.matrix(where, "x", x, dimensions=(1, 2)).astype(np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.shape != (self.columns, self._rights):
            raise ValueError(f"{where}: x has shape {values.shape}; expected {(self.columns, self._rights)}")
        d = self.columns
        gram = self._gram.copy()
        gram[:d, :d] += _arguments.non_negative(where, "ridge", ridge) * np.eye(d)
        factored = _solvers.gram_factor(gram, d)
        if factored is None:
            below = np.sqrt(ridge) * np.eye(d)
            factor = _dense.triangular_factor([self._sketch[:, :d], below], d)
        else:
            factor = np.ldexp(factored[0], factored[1])
        return self._measured(gram, self._certificate(gram, factor), values)[1]

    @_alone
    def refine(self, source: _sources.Source, *, ridge: float = 0.0, rtol: float | None = None) -> _lstsq.LstsqResult:
        """The certified solution, by one or more passes over the rows that the state has seen.

        Args:
            source: gives these rows again, in chunks (X, y) or (X, y, weights): a list, ArrayChunks, NpyChunks, ArrowChunks, or a function without
                arguments that returns an iterator. Order and size of chunks are free.
            ridge, rtol: as in `lstsq`.
        Returns:
            LstsqResult, as of `lstsq`; passes counts reads of the source.
        Raises:
            TypeError, ValueError: as `lstsq`; a source that can be read only once, or has another number of rows than the state.
        """
        where = "refine"
        ridge = _arguments.non_negative(where, "ridge", ridge)
        tolerance = _lstsq.DEFAULT_TOLERANCE if rtol is None else _arguments.non_negative(where, "rtol", rtol)
        problem = _sources.StreamedProblem(where, source, self.columns, self._rights, self.rows_seen, ridge, self._threads)
        d, of_a, of_b = self.columns, 0, 0
        gram = self._gram.copy()
        gram[:d, :d] += ridge * np.eye(d)
        solution = _solvers.by_gram(problem, tolerance, gram)
        if solution is None or solution.backward_error > tolerance:
            solution = _solvers.by_preconditioned_gram(problem, tolerance, self._sketch.copy())
        if solution is None or solution.backward_error > tolerance:
            try:
                solution = _solvers.by_qr(problem, tolerance)
            except _solvers.OutOfScale as far:
                of_a, of_b = far.args
                ridge = problem.ridge = float(np.ldexp(ridge, -2 * of_a))
                problem.exponents = (of_a, of_b)
                solution = _solvers.by_qr(problem, tolerance)
        certified = solution.backward_error <= tolerance
        if not certified:
            warnings.warn(
                f"refine: backward error is {solution.backward_error:.1e}, above the tolerance {tolerance:.1e}",
                RuntimeWarning,
                stacklevel=3,  # past _alone
            )
        result = self._result(solution, ridge, passes=problem.passes, certified=certified)
        return _lstsq.scaled_back(result, of_a, of_b) if of_a or of_b else result

    def _certificate(self, gram: Array, factor: Array) -> Certificate:
        return Certificate(factor, np.sqrt(np.diagonal(gram)[self.columns :]))

    def _measured(self, gram: Array, certificate: Certificate, x: Array) -> tuple[Array, float]:
        """Squared residuals and backward error from the Gram matrix, its rounding included."""
        d = self.columns
        plain, right = gram[:d, :d], gram[:d, d:]
        gradient = right - plain @ x
        rounding = _solvers.EPSILON * (np.abs(right) + np.abs(plain) @ np.abs(x))
        b_squares = np.diagonal(gram)[d:]
        squares = b_squares - np.sum(x * (right + gradient), axis=0)
        squares = np.maximum(squares, _solvers.EPSILON * b_squares)
        errors = certificate.backward_errors(x, gradient, squares) + certificate.backward_errors(x, rounding, squares)
        return squares, float(np.max(errors, initial=0.0))

    def _result(self, solution: _solvers.Solution, ridge: float, *, passes: int, certified: bool = False) -> _lstsq.LstsqResult:
        flat = self.targets is None
        plain = solution.squared_residuals
        if ridge:  # the squares may overflow where columns are tiny, and 0 of infinity is no number
            plain = np.maximum(plain - ridge * np.sum(solution.x * solution.x, axis=0), 0.0)
        full = solution.rank == self.columns
        errors = solution.certificate.standard_errors(plain, self._observations, ridge) if full else np.full(solution.x.shape, np.nan)
        norms = np.sqrt(plain)
        return _lstsq.LstsqResult(
            x=solution.x[:, 0] if flat else solution.x,
            residual_norm=float(norms[0]) if flat else norms,
            backward_error=solution.backward_error,
            condition=solution.certificate.condition if full else float("inf"),
            method=solution.method,
            passes=passes,
            standard_errors=errors[:, 0] if flat else errors,
            rank=solution.rank,
            certified=certified,
        )

    # ---- storage: MAGIC, uint32 length of a JSON header, the header, float64 sketch and Gram matrix, uint32 CRC-32 of all before; little endian

    @_alone
    def to_bytes(self) -> bytes:
        """The state as bytes, for from_bytes on any machine."""
        head = {name: getattr(self, name) for name in PARAMETERS}
        text = json.dumps({**head, "ranges": self._ranges, "observations": self._observations}).encode("ascii")
        body = b"".join(
            (MAGIC, struct.pack("<I", len(text)), text, self._sketch.astype("<f8").tobytes(), self._gram.astype("<f8").tobytes())
        )
        return body + struct.pack("<I", zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> SketchedLeastSquares:
        """The state that to_bytes stored.

        Raises:
            ValueError: other data, another version, or damaged bytes.
        """
        data = bytes(data)
        if data[: len(MAGIC) - 1] != MAGIC[:-1]:
            raise ValueError(f"from_bytes: data begins with {data[: len(MAGIC) - 1]!r}; expected {MAGIC[:-1]!r}")
        if data[len(MAGIC) - 1 : len(MAGIC)] != MAGIC[-1:]:
            raise ValueError(f"from_bytes: version of the format is {data[len(MAGIC) - 1 : len(MAGIC)]!r}; expected {MAGIC[-1:]!r}")
        if len(data) < len(MAGIC) + 8 or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
            raise ValueError("from_bytes: data is damaged or truncated; its checksum differs")
        start = len(MAGIC) + 4
        length = struct.unpack("<I", data[start - 4 : start])[0]
        head = json.loads(data[start : start + length])
        ranges = [(int(first), int(stop)) for first, stop in head.pop("ranges")]
        observations = int(head.pop("observations"))
        state = cls(**head)
        values = np.frombuffer(data[start + length : -4], "<f8")
        if values.size != state._sketch.size + state._gram.size:
            raise ValueError(f"from_bytes: data holds {values.size} numbers; expected {state._sketch.size + state._gram.size}")
        state._sketch = values[: state._sketch.size].reshape(state._sketch.shape).astype(np.float64)
        state._gram = values[state._sketch.size :].reshape(state._gram.shape).astype(np.float64)
        state._ranges, state._observations = ranges, observations
        return state

    def __reduce__(self) -> Any:
        return _restored, (self.to_bytes(),)

    def __repr__(self) -> str:
        return f"<SketchedLeastSquares of {self.rows_seen} rows, {self.columns} columns, {self.kind} of {self.rows} rows, seed {self.seed}>"


def _restored(data: bytes) -> SketchedLeastSquares:
    return SketchedLeastSquares.from_bytes(data)


def _joined(where: str, one: list[tuple[int, int]], other: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of two lists of disjoint ranges, neighbours joined.

    Raises:
        ValueError: they overlap.
    """
    joined: list[tuple[int, int]] = []
    for start, stop in sorted([*one, *other]):
        if joined and start < joined[-1][1]:
            raise ValueError(f"{where}: rows {start} to {min(stop, joined[-1][1]) - 1} were seen before; expected new row numbers")
        if joined and start == joined[-1][1]:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
