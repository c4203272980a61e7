"""Checks of arguments: every refusal names the function, the argument, what it got and what it wants."""

from __future__ import annotations

from typing import Any

import numpy as np

from slipstick._arguments import integer as integer
from slipstick._arguments import thread_count as thread_count

CHUNK_BYTES = 1 << 24  # of A looked at once when a fault in it is searched for


def is_sparse(value: Any) -> bool:
    """Whether value is a SciPy sparse matrix or array; SciPy is not imported for it."""
    return type(value).__module__.startswith("scipy.sparse") and hasattr(value, "tocsr")


def matrix(where: str, name: str, value: Any, *, dimensions: tuple[int, ...] = (2,)) -> np.ndarray[Any, Any]:
    """value as an array of float32 or float64, in whatever memory order it has; integers and booleans become float64, and
    the other byte order the machine's.

    Raises:
        TypeError: value has another dtype, or is sparse.
        ValueError: value has another number of dimensions.
    """
    if is_sparse(value):
        raise TypeError(f"{where}: {name} is a SciPy sparse matrix; expected a dense array (of this room, only sketches take sparse ones)")
    array = np.asarray(value)
    if array.dtype.kind in "biu" or array.dtype == np.float16:
        array = array.astype(np.float64)
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise TypeError(f"{where}: {name} has dtype {array.dtype}; expected float32, float64 or integers")
    if array.ndim not in dimensions:
        wanted = " or ".join(map(str, dimensions))
        raise ValueError(f"{where}: {name} has {array.ndim} dimensions; expected {wanted}")
    if not array.dtype.isnative or not array.flags.aligned or any(stride % array.itemsize for stride in array.strides):
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def same_rows(where: str, name: str, value: np.ndarray[Any, Any], rows: int) -> None:
    if value.shape[0] != rows:
        raise ValueError(f"{where}: {name} has {value.shape[0]} rows; expected {rows}, the rows of A")


def row_scale(where: str, weights: Any, rows: int) -> np.ndarray[Any, Any] | None:
    """Square roots of the weights, or None.

    Raises:
        ValueError: another shape than (rows,), or a weight that is negative, NaN or infinite.
    """
    if weights is None:
        return None
    array = matrix(where, "weights", weights, dimensions=(1,))
    same_rows(where, "weights", array, rows)
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise ValueError(f"{where}: weights is {array[bad[0]]} at row {bad[0]}; expected finite numbers of 0 or more")
    return np.ascontiguousarray(np.sqrt(array.astype(np.float64)))


def non_negative(where: str, name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{where}: {name} is {value!r}; expected a number") from None
    if not (number >= 0 and number < float("inf")):
        raise ValueError(f"{where}: {name} is {number}; expected a finite number of 0 or more")
    return number


def positive(where: str, name: str, value: Any) -> float:
    number = non_negative(where, name, value)
    if number == 0:
        raise ValueError(f"{where}: {name} is {number}; expected a number above 0")
    return number


def positive_integer(where: str, name: str, value: Any) -> int:
    number = integer(where, name, value)
    if number < 1:
        raise ValueError(f"{where}: {name} is {number}; expected 1 or more")
    if number >= 1 << 31:
        raise ValueError(f"{where}: {name} is {number}; expected at most 2^31 - 1")
    return number


def first_row(where: str, name: str, value: Any) -> int:
    number = integer(where, name, value)
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{where}: {name} is {number}; expected 0 to 2^63 - 1")
    return number


def seed_of(where: str, seed: Any) -> int:
    number = integer(where, "seed", seed)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{where}: seed is {number}; expected 0 to 2^64 - 1")
    return number


def one_of(where: str, name: str, value: Any, names: tuple[str, ...]) -> str:
    if value not in names:
        raise ValueError(f"{where}: {name} is {value!r}; expected one of {', '.join(map(repr, names))}")
    return str(value)


def refuse_non_finite(where: str, name: str, array: np.ndarray[Any, Any]) -> None:
    """Raises ValueError at the first NaN or infinity of a one- or two-dimensional array; reads it in chunks.

    Raises:
        ValueError: there is one; the message has its place.
    """
    rows = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, array.shape[0], rows):
        chunk = array[start : start + rows]
        if np.isfinite(chunk).all():
            continue
        place = np.argwhere(~np.isfinite(chunk))[0]
        row = start + int(place[0])
        at = f"row {row}" if array.ndim == 1 else f"row {row}, column {int(place[1])}"
        raise ValueError(f"{where}: {name} is {chunk[tuple(place)]} at {at}; expected finite numbers")
