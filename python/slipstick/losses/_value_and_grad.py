"""Gradients of every loss for NumPy arrays: the loss runs over arrays that remember what was done with them, see _traced.py."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from slipstick._arguments import is_torch

from ._head import FORMATS
from ._numpy import plain_array
from ._traced import Traced, pulled_back, untraced

__all__ = ["value_and_grad"]

_NAME = "value_and_grad"


def value_and_grad(
    loss: Callable[..., Any], /, *arguments: Any, by: Iterable[str] | None = None, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """A loss of NumPy arrays and its gradients: for training without torch, with any loss of slipstick.losses.

    >>> import numpy as np
    >>> from slipstick import losses
    >>> hidden, weight = np.ones((2, 8), np.float32), np.eye(5, 8, dtype=np.float32)
    >>> loss, gradients = losses.value_and_grad(losses.focal_loss, hidden, weight, np.array([1, 4]), gamma=2.0)
    >>> gradients["weight"].shape
    (5, 8)

    Args:
        loss: a function of this module, or one of your own made of them, of + - * / ** @ and of NumPy's functions that have derivatives
            here; an error says which. It is called once.
        arguments, options: its arguments, NumPy arrays among them.
        by: names of the arguments to differentiate by; default: of all that are arrays of floating-point numbers.
    Returns:
        What loss returns, and the gradient by each of those arguments, by its name, in its shape and dtype: of the loss, or of the first where it
        returns a tuple. 0 where an argument has no part in it, or takes part without gradient.
    Raises:
        TypeError: loss is no function, an argument of `by` holds no floating-point numbers or is a tensor, which has autograd, or NumPy's function has
        no derivative here. ValueError: by names no argument, or the loss is not one number. And what loss raises.
    Notes:
        The value is that of the call itself, bit for bit, and gradients are what autograd gives for tensors, up to rounding: statistics of a head cost
        one more streamed pass, see row_statistics, and losses of whole rows are computed again in chunks. Gradients that nobody needs cost
        time: leave frozen arguments, as a teacher's, out of `by`. linear_cross_entropy_and_grad takes three products of the size of the
        logits where this takes four.
    """
    if not callable(loss):
        raise TypeError(f"{_NAME}: loss is a {type(loss).__name__}; expected a function")
    bound = inspect.signature(loss).bind(*arguments, **options)
    given = _by_name(bound)
    for name, x in given.items():
        if isinstance(x, Traced):
            raise TypeError(f"{_NAME}: {name} is differentiated already; expected a NumPy array, as there are no gradients of gradients")
    if by is None:
        names = [name for name, x in given.items() if isinstance(x, np.ndarray) and x.dtype.name in FORMATS]
        if not names:
            raise ValueError(
                f"{_NAME}: no argument of loss is an array of floating-point numbers; expected one at least, not in *arguments"
            )
    else:
        names = list(dict.fromkeys(_names(by)))
    for name in names:
        if name not in given:
            raise ValueError(f"{_NAME}: by holds {name!r}; expected some of {str(tuple(given))[1:-1]}, the arguments that are given")
    leaves = {name: Traced(_floats(name, given[name])) for name in names}
    for arguments_by_name in (bound.arguments, bound.arguments.get(_rest(bound), {})):
        arguments_by_name.update((name, leaf) for name, leaf in leaves.items() if name in arguments_by_name)
    result = loss(*bound.args, **bound.kwargs)
    value = result[0] if isinstance(result, tuple) else result
    if np.shape(untraced(value)) != ():
        raise ValueError(
            f"{_NAME}: the loss has shape {np.shape(untraced(value))}; expected one number, as reduction 'mean' and 'sum' give"
        )
    plain = _plain_parts(result) if isinstance(result, tuple) else untraced(result)
    if isinstance(value, Traced):
        gradients = pulled_back(value, np.ones((), value.dtype), list(leaves.values()))
    else:
        gradients = [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves.values()]
    return plain, dict(zip(leaves, gradients))


def _plain_parts(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arrays themselves, in a tuple of the same kind."""
    parts = map(untraced, result)
    return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)


def _names(by: Any) -> Iterable[str]:
    if isinstance(by, str):
        return (by,)
    if not isinstance(by, Iterable):
        raise TypeError(f"{_NAME}: by is {by!r}; expected names of arguments")
    return by


def _rest(bound: inspect.BoundArguments) -> str:
    """The name of **options in a signature, "" where it has none."""
    kinds = {parameter.kind: name for name, parameter in bound.signature.parameters.items()}
    return kinds.get(inspect.Parameter.VAR_KEYWORD, "")


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    """Arguments by their names, **options among them."""
    rest = _rest(bound)
    return {**{name: x for name, x in bound.arguments.items() if name != rest}, **bound.arguments.get(rest, {})}


def _floats(name: str, x: Any) -> Any:
    if is_torch(x):
        raise TypeError(f"{_NAME}: {name} is a torch.Tensor; expected a NumPy array, as tensors have autograd")
    array = plain_array(_NAME, name, x)
    if array.dtype.name not in FORMATS:
        raise TypeError(f"{_NAME}: {name} has dtype {array.dtype}; expected one of {', '.join(FORMATS)}")
    return array
