"""Checks of arguments that several rooms share; each error names the function and the argument. Imports nothing heavy."""

from __future__ import annotations

import sys

from slipstick import _core

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

MOST_THREADS: int = _core.MAX_THREADS


def integer(where: str, name: str, value: Any) -> int:
    """value as an int; bool and float are none.

    Raises:
        TypeError: value is no integer.
    """
    from operator import index

    try:
        if isinstance(value, bool):
            raise TypeError
        return index(value)
    except TypeError:
        raise TypeError(f"{where}: {name} is {value!r}; expected a whole number") from None


def int64(where: str, name: str, value: Any) -> int:
    """value as an int that the core can take.

    Raises:
        TypeError, ValueError: value is no integer, or needs more than 64 bits with its sign.
    """
    number = integer(where, name, value)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{where}: {name} is {number}; expected -2^63 to 2^63 - 1")
    return number


def thread_count(where: str, threads: Any) -> int:
    """threads as the core takes it: 0 stands for the default.

    Raises:
        TypeError, ValueError: threads is neither None nor a whole number from 1 to MOST_THREADS.
    """
    if threads is None:
        return 0
    count = integer(where, "threads", threads)
    if not 1 <= count <= MOST_THREADS:
        raise ValueError(f"{where}: threads is {count}; expected a whole number from 1 to {MOST_THREADS}, or None")
    return count


def torch_thread_count(count: int) -> int:
    """The same in an operator of torch: where neither the call nor slipstick was told a count, it is torch's own."""
    import os

    import torch

    import slipstick

    told = count or slipstick._threads_were_set or os.environ.get("SLIPSTICK_NUM_THREADS")
    return count if told else torch.get_num_threads()


def is_torch(x: object) -> bool:
    """Whether x is a tensor. Does not import torch: nothing can be its tensor before someone has."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)
