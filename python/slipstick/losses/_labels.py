"""Which labels count. An operator of torch, so that a label out of range is found while a compiled program runs, and stops no compilation."""

from __future__ import annotations

from slipstick._arguments import is_torch

from ._arrays import Array


def check_labels(name: str, labels: Array, classes: int, ignore_index: int | None, argument: str = "targets") -> Array:
    """Which labels count, a bool each: all but those of ignore_index.

    Raises:
        IndexError: one that counts is not from 0 to classes - 1.
    """
    if not is_torch(labels):
        return counted_labels(labels, classes, ignore_index, f"{name}: {argument}")
    from ._formula_operators import call

    return call("counted_labels", labels, classes, ignore_index, f"{name}: {argument}")


def counted_labels(labels: Array, classes: int, ignore_index: int | None, name: str) -> Array:
    """check_labels itself; name: the function's and the argument's."""
    outside = (labels < 0) | (labels >= classes)
    if ignore_index is None:
        if bool(outside.any()):
            raise IndexError(f"{name} holds {int(labels.min())} to {int(labels.max())}; expected 0 to {classes - 1}")
        return ~outside
    counts = labels != ignore_index
    wrong = counts & outside
    if bool(wrong.any()):
        raise IndexError(f"{name} holds {int(labels[wrong][0])}; expected 0 to {classes - 1}, or {ignore_index} to ignore a row")
    return counts
