"""The threads of SciPy's OpenBLAS, held to one while small matrices are factored.

Its threads wait for each other by spinning. Where other processes want the processors, a factorisation of some hundred columns, which meets them thousands of
times, takes many times as long with them as without; and on a machine at rest they gain little at this size.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any

MOST_COLUMNS = 512  # of a matrix for which one thread is enough

_lock = threading.Lock()  # the number of threads belongs to the process
_holders, _before = 0, 0


@functools.cache
def _controls() -> tuple[Any, Any] | None:
    """The functions that read and set the number of threads; None for another library than OpenBLAS."""
    from scipy.linalg import cython_lapack

    try:
        library = ctypes.CDLL(cython_lapack.__file__)  # its symbols are searched with those of what it is linked with
    except OSError:
        return None
    for prefix in ("scipy_openblas", "openblas"):
        for suffix in ("", "64_"):
            names = [f"{prefix}_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(library, name) for name in names):
                return getattr(library, names[0]), getattr(library, names[1])
    return None


def _forget_holders() -> None:
    """In a forked child, where the threads that held are not."""
    global _lock, _holders
    _lock = threading.Lock()
    if _holders and _before > 1 and (controls := _controls()) is not None:
        controls[1](_before)
    _holders = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_holders)


@contextlib.contextmanager
def one_thread(columns: int) -> Iterator[None]:
    """Holds OpenBLAS to one thread for a matrix of so many columns, if they are not many. May be entered by several threads at once."""
    global _holders, _before
    controls = _controls() if columns <= MOST_COLUMNS else None
    if controls is None:
        yield
        return
    read, write = controls
    with _lock:
        if _holders == 0:
            _before = int(read())
            if _before > 1:
                write(1)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0 and _before > 1:
                write(_before)
