"""Losses of a linear head over a large vocabulary, from statistics that are streamed: the logits are never held in memory.

>>> import numpy as np
>>> from slipstick import losses
>>> hidden, weight = np.ones((2, 8), np.float32), np.eye(5, 8, dtype=np.float32)
>>> targets = np.array([1, 4])
>>> bool(abs(losses.linear_cross_entropy(hidden, weight, targets) - np.log(5)) < 1e-6)
True

`row_statistics` gives the numbers, and any differentiable function of them is a loss with an exact gradient; `linear_cross_entropy` is the
common one; `two_head_statistics` is the same for two heads. They and the other losses in `losses.__all__` take NumPy arrays, for values, and
torch tensors, with autograd; torch is imported only when it is given. Of torch alone are `LinearCrossEntropy`, a module, and
`project_gradients`, which changes the gradients that torch keeps beside its parameters.

Gradients of NumPy arrays come from `value_and_grad`, for every loss here and for your own functions of them:

>>> loss, gradients = losses.value_and_grad(losses.focal_loss, hidden, weight, targets, gamma=2.0)
>>> gradients["weight"].shape
(5, 8)
>>> def confident_cross_entropy(hidden, weight):
...     rows = losses.row_statistics(hidden, weight, targets, want=("target", "lse", "entropy"))
...     return (rows.lse - rows.target + 0.1 * rows.entropy).mean()
>>> loss, gradients = losses.value_and_grad(confident_cross_entropy, hidden, weight)

Functions with `_and_grad` behind their names give them, too, of the cross-entropy with one product less, and of statistics where you know
your loss's derivatives by them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _family
from ._cross_entropy import linear_cross_entropy, linear_cross_entropy_and_grad
from ._statistics import ERROR_BOUNDS, RowStatistics, TopK, row_statistics
from ._two_head_statistics import TwoHeadStatistics, two_head_statistics

if TYPE_CHECKING:
    from ._numpy_gradients import row_statistics_and_grad, two_head_statistics_and_grad
    from ._torch_cross_entropy import LinearCrossEntropy
    from ._value_and_grad import value_and_grad

__all__ = [
    "ERROR_BOUNDS",
    "LinearCrossEntropy",
    "RowStatistics",
    "TopK",
    "TwoHeadStatistics",
    "linear_cross_entropy",
    "linear_cross_entropy_and_grad",
    "row_statistics",
    "row_statistics_and_grad",
    "two_head_statistics",
    "two_head_statistics_and_grad",
    "value_and_grad",
    *_family.FILES,
]


if not TYPE_CHECKING:  # a checker would take every name for one of these

    def __getattr__(name: str) -> Any:
        if name == "LinearCrossEntropy":  # a torch.nn.Module
            from ._torch_cross_entropy import LinearCrossEntropy

            return LinearCrossEntropy
        if name in ("row_statistics_and_grad", "two_head_statistics_and_grad"):  # NumPy is imported when it is needed
            from . import _numpy_gradients

            return getattr(_numpy_gradients, name)
        if name == "value_and_grad":
            from ._value_and_grad import value_and_grad

            return value_and_grad
        if name in _family.FILES:
            return _family.load(name)
        raise AttributeError(f"module 'slipstick.losses' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
