"""`sketch`: a random projection of the rows of a matrix, keyed by their global numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from slipstick._arguments import is_torch
from slipstick._core import sketch as _core

from . import _arguments

KINDS = ("srht", "sjlt", "countsketch", "gaussian", "gaussian_pooled")
POOLED = 8  # rows of the Hadamard transform in one of a pooled sketch
DEFAULT_NONZEROS = 8
SPARSE_CHUNK_BYTES = 1 << 24  # of a sparse matrix's rows made dense at once
CHUNK_ALIGNMENT = 512  # rows: a block of the srht


def core_kind(kind: str, rows: int) -> tuple[str, int]:
    """The core's name of a kind, and the nonzeros it has where none are asked for."""
    return ("sjlt", 1) if kind == "countsketch" else (kind, min(DEFAULT_NONZEROS, rows) if kind == "sjlt" else 1)


def sketch(
    A: Any,  # noqa: N803
    *,
    kind: str = "srht",
    rows: int,
    seed: int = 0,
    nonzeros: int | None = None,
    first_row: int = 0,
    weights: Any = None,
    threads: int | None = None,
) -> Any:
    """S A for a random S [rows, n] with E[S^T S] = I, in one read of A.

    Column i of S depends on (kind, seed, rows, nonzeros) and on the global number of row i of A, first_row + i, alone. So sketches of parts
    add up to that of the whole (up to rounding), in any order and on any machine.

    Args:
        A: (n, d), float32 or float64 in any memory order, or a SciPy sparse matrix, whose rows are made dense in chunks; NaN and infinity go where their row goes. A torch tensor on CUDA, with
            slipstick-cu13, is sketched there: with the bits of a CPU that has FMA instructions, but "sjlt" and "countsketch" with the signs and
            places of the CPU and sums that differ in the last bits.
        kind: "srht": rows of the randomised Hadamard transform, sampled without replacement (Tropp 2011, arXiv:1011.1595), streamed: dense, any n,
            no padding in memory; chunks cost least when they begin and end at multiples of 512. "sjlt": `nonzeros` entries of +-1/sqrt(nonzeros) a row of A, one in each of as many bands (Kane and Nelson 2014,
            arXiv:1012.1577, block construction); "countsketch": one nonzero (Clarkson and Woodruff 2013, arXiv:1207.6365); "gaussian":
            independent normal entries of variance 1/rows, n d rows flops; "gaussian_pooled": 8 rows of an srht of 8 `rows` rows, each times a normal
            number, added to one (the balanced Gaussian-pooled transform of Song and Zhang 2026, its Hadamard rows sampled): given the srht, rows are
            independent and normal.
        rows: of the sketch; 4 d to 16 d for least squares.
        seed: 0 to 2^64 - 1.
        nonzeros: for "sjlt", 1 to min(64, rows); default 8.
        first_row: global number of A's first row, 0 to 2^63 - 1.
        weights: None or (n,), 0 or more: row i is multiplied by its square root.
        threads: does not change a bit of the result.
    Returns:
        float64 (rows, d); for a tensor on CUDA, one there.
    Raises:
        TypeError: an argument is of the wrong type or dtype, or A and weights are not on one device.
        ValueError: an argument is out of range.
        UnsupportedError: A is on CUDA and slipstick-cu13 is not installed, or the device has no room for so many rows of a sparse sketch.
    """
    where = "sketch"
    kind = _arguments.one_of(where, "kind", kind, KINDS)
    count = _arguments.positive_integer(where, "rows", rows)
    name, default = core_kind(kind, count)
    if nonzeros is None:
        nonzeros = default
    elif kind != "sjlt":
        raise ValueError(f"{where}: nonzeros is {nonzeros} with kind {kind!r}; expected none, it belongs to 'sjlt'")
    first = _arguments.first_row(where, "first_row", first_row)
    if _is_cuda(A) or _is_cuda(weights):
        from . import _cuda

        _cuda.on_one_device(where, A=A, weights=weights)
        of_row = _arguments.positive_integer(where, "nonzeros", nonzeros)
        return _cuda.sketch(where, A, name, _arguments.seed_of(where, seed), count, of_row, first, weights)
    matrix = _checked(where, "A", A)
    scale, key = _arguments.row_scale(where, weights, matrix.shape[0]), _arguments.seed_of(where, seed)
    count_of_nonzeros, workers = _arguments.positive_integer(where, "nonzeros", nonzeros), _arguments.thread_count(where, threads)
    return _applied(where, name, key, count_of_nonzeros, matrix, scale, first, count, workers)


def kronecker_sketch(
    A1: Any,  # noqa: N803
    A2: Any,  # noqa: N803
    *,
    rows: int,
    seed: int = 0,
    first_rows: tuple[int, int] = (0, 0),
    threads: int | None = None,
) -> Any:
    """S (A1 (x) A2), the Kronecker product, by a TensorSRHT, without forming the n1 n2 rows a1_i (x) a2_j: one read of A1 and of A2.

    S = P (H D1 (x) H D2) / sqrt(rows): signs and a randomised Hadamard transform of each factor, and `rows` pairs of their rows sampled with replacement
    (Ahle et al. 2020, arXiv:1909.01410); rows are permuted within blocks of 512 as in the srht. Column (i, j) of S depends on (seed, rows) and on the
    global numbers of row i of A1 and row j of A2 alone, and the sketch is linear in each factor: so those of parts of either factor add up to that of
    the whole (up to rounding), in any order and on any machine.

    Args:
        A1: (n1, d1); A2: (n2, d2); each as A in `sketch`, sparse matrices included; or both torch tensors on one CUDA device.
        rows: of the sketch; 4 d1 d2 to 16 d1 d2 for least squares.
        seed: 0 to 2^64 - 1.
        first_rows: global numbers of the first rows of A1 and A2, 0 to 2^63 - 1.
        threads: does not change a bit of the result.
    Returns:
        float64 (rows, d1 d2), columns in the order of numpy.kron; for tensors on CUDA, one there.
    Raises:
        TypeError: as `sketch`; or one factor is on CUDA and the other elsewhere: nothing is moved.
        ValueError, UnsupportedError: as `sketch`.
    """
    where = "kronecker_sketch"
    count, key = _arguments.positive_integer(where, "rows", rows), _arguments.seed_of(where, seed)
    workers = _arguments.thread_count(where, threads)
    if not isinstance(first_rows, tuple | list) or len(first_rows) != 2:
        raise TypeError(f"{where}: first_rows is {first_rows!r}; expected two whole numbers")
    first = _arguments.first_row(where, "first_rows[0]", first_rows[0]), _arguments.first_row(where, "first_rows[1]", first_rows[1])
    if _is_cuda(A1) or _is_cuda(A2):
        from . import _cuda

        _cuda.on_one_device(where, A1=A1, A2=A2)
        return _cuda.kronecker_sketch(where, A1, A2, key, count, first)
    left, right = (
        _applied(where, kind, key, 1, _checked(where, name, A), None, first[i], count, workers)
        for i, (kind, name, A) in enumerate((("tensor_left", "A1", A1), ("tensor_right", "A2", A2)))
    )
    return np.sqrt(count) * (left[:, :, None] * right[:, None, :]).reshape(count, -1)


def _is_cuda(value: Any) -> bool:
    return is_torch(value) and value.device.type == "cuda"


def _checked(where: str, name: str, A: Any) -> Any:  # noqa: N803
    """A as an array, or as a CSR matrix where it is a SciPy sparse one."""
    return A.tocsr() if _arguments.is_sparse(A) and len(A.shape) == 2 else _arguments.matrix(where, name, A)


def _applied(
    where: str, kind: str, seed: int, nonzeros: int, matrix: Any, scale: np.ndarray[Any, Any] | None, first: int, rows: int, threads: int
) -> np.ndarray[Any, Any]:
    """The core's sketch of what _checked returned; a CSR matrix in chunks of rows."""
    n, d = matrix.shape
    out = np.zeros((rows, d))
    if isinstance(matrix, np.ndarray):
        _core.sketch(kind, seed, nonzeros, matrix, np.zeros((n, 0)), scale, first, out, threads)
        return out
    part, step = np.empty_like(out), max(1, SPARSE_CHUNK_BYTES // (8 * max(d, 1)) // CHUNK_ALIGNMENT) * CHUNK_ALIGNMENT
    for start in range(0, n, step):
        chunk = _arguments.matrix(where, "A", matrix[start : start + step].toarray())
        of_chunk = None if scale is None else scale[start : start + step]
        _core.sketch(kind, seed, nonzeros, chunk, np.zeros((chunk.shape[0], 0)), of_chunk, first + start, part, threads)
        out += part
    return out
