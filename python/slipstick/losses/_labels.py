"""Which labels count. An operator, so that a label out of range is found while a compiled program runs, and stops no compilation."""

from __future__ import annotations

import torch

from ._operators import ANY_DEVICE, call, register

_SCHEMA = "counted_labels(Tensor labels, int classes, int? ignore_index, str name) -> Tensor"


def check_labels(name: str, labels: torch.Tensor, classes: int, ignore_index: int | None, argument: str = "targets") -> torch.Tensor:
    """Which labels count, a bool each: all but those of ignore_index.

    Raises:
        IndexError: one that counts is not from 0 to classes - 1.
    """
    counts: torch.Tensor = call("counted_labels", labels, classes, ignore_index, f"{name}: {argument}")
    return counts


def _counted_labels(labels: torch.Tensor, classes: int, ignore_index: int | None, name: str) -> torch.Tensor:
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


def _counted_labels_fake(labels: torch.Tensor, classes: int, ignore_index: int | None, name: str) -> torch.Tensor:
    return torch.empty_like(labels, dtype=torch.bool)


register(_SCHEMA, _counted_labels, _counted_labels_fake, key=ANY_DEVICE)
