"""Checks of arguments that the functions of this room share; each error names the function and the argument."""

from __future__ import annotations

from slipstick._core import logs as core

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any


def bytes_view(where: str, data: Any) -> memoryview:
    """A flat view of the bytes of any contiguous buffer."""
    try:
        view = memoryview(data)
    except TypeError:
        hint = " (encode it first)" if isinstance(data, str) else ""
        raise TypeError(f"{where}: data is {type(data).__name__}; expected a bytes-like object{hint}") from None
    if not view.c_contiguous:
        raise ValueError(f"{where}: data is not contiguous; expected a C-contiguous buffer")
    return view.cast("B") if view.nbytes else memoryview(b"")  # cast refuses shapes that hold a zero


def level_name(where: str, level: Any) -> str:
    if not isinstance(level, str):
        raise TypeError(f"{where}: level is {type(level).__name__}; expected a str, one of {expected_levels()}")
    if level not in core.level_names():
        raise ValueError(f"{where}: level is {level!r}; expected one of {expected_levels()}")
    return level


def expected_levels() -> str:
    return ", ".join(repr(level) for level in core.level_names())


def byte_limit(where: str, name: str, limit: Any) -> int:
    """A limit as the core takes it: 0 stands for none, and so does what no memory holds."""
    return 0 if limit is None else min(_positive(where, name, limit), (1 << 64) - 1)


def _positive(where: str, name: str, value: Any) -> int:
    from operator import index

    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)
    except TypeError:
        raise TypeError(f"{where}: {name} is {type(value).__name__}; expected a positive int or None") from None
    if number < 1:
        raise ValueError(f"{where}: {name} is {number}; expected a positive int or None")
    return number
