"""Columns of values as NumPy arrays. Imported when they are asked for, so that the rest of the room needs no NumPy."""

from __future__ import annotations

import itertools

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

LONGEST_FIXED = 256  # bytes; an array of fixed width takes that for every value


def arrays(lines: bytes, columns: list[Any]) -> dict[str, Any]:
    """The arrays that Archive.columns returns, from what the core gives."""
    import numpy

    out = {"line": numpy.frombuffer(lines, numpy.uint64).astype(numpy.int64)}
    for slot, (kind, digits, numbers, text, ends) in enumerate(columns):
        out[str(slot)] = _numbers(kind, digits, numbers) if kind != "text" else _texts(text, ends)
    return out


def _numbers(kind: str, digits: int, data: bytes) -> Any:
    import numpy

    numbers = numpy.frombuffer(data, numpy.int64)
    if kind == "decimal":
        return numbers / 10.0**digits  # both are exact below 2**53 and 10**23, so the quotient is the nearest
    if kind == "time":
        return (numbers * 10 ** (9 - digits)).astype("timedelta64[ns]")
    return numbers.copy()


def _texts(text: bytes, ends: bytes) -> Any:
    import numpy

    bounds = [0, *numpy.frombuffer(ends, numpy.uint64).tolist()]
    values = [text[begin:end] for begin, end in itertools.pairwise(bounds)]
    if max(map(len, values)) <= LONGEST_FIXED and not any(value.endswith(b"\0") for value in values):
        return numpy.array(values, "S")
    out = numpy.empty(len(values), object)
    out[:] = values
    return out
