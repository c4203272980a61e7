"""The arrays of the formulas: torch tensors or NumPy's, whose libraries have most names in common.

A formula stands once, over `xp = library(x)`: xp.where, xp.exp and so on, with positional arguments, which both understand. Here is what
they call differently. Nothing imports torch: there is no tensor before someone has.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from slipstick._arguments import is_torch

from ._numpy import integers, plain_array
from ._traced import untraced

Array: TypeAlias = Any  # a torch.Tensor or a NumPy array; also a NumPy number, which NumPy makes of an array without dimensions

Loss = TypeVar("Loss", bound=Callable[..., Any])

NUMPY_FLOATS = ("float16", "float32", "float64")


def library(x: Array) -> Any:
    """The module that computes with x."""
    if not is_torch(x):
        return np
    import torch

    return torch


# ---- what is given to a loss --------------------------------------------------------------------------------------------------------------


def has_tensor(*given: Any) -> bool:
    return any(is_torch(x) for x in given)


def taken(name: str, **given: Array | None) -> tuple[Any, ...]:
    """Arguments by their names, as they are where one of them is a tensor, else as NumPy arrays. None stays None.

    Raises:
        TypeError: one is a tensor and another is not, or an array has elements that are masked or no real numbers.
    """
    if not has_tensor(*given.values()):
        return tuple(None if x is None else plain_array(name, argument, x) for argument, x in given.items())
    for argument, x in given.items():
        if x is not None and not is_torch(x):
            raise TypeError(f"{name}: {argument} is a {type(x).__name__}; expected a torch.Tensor")
        if x is not None and x.is_complex():
            raise TypeError(f"{name}: {argument} has dtype {dtype_name(x)}; expected real numbers")
    return tuple(given.values())


def required(name: str, **given: Array | None) -> None:
    """Raises TypeError where an argument is None."""
    for argument, x in given.items():
        if x is None:
            raise TypeError(f"{name}: {argument} is None; expected an array")


def floats(name: str, **given: Array | None) -> tuple[Any, ...]:
    """taken, of floating-point numbers, None refused. Not bfloat16 of NumPy arrays, with which NumPy has no formulas.

    Raises:
        TypeError: see taken, or an array is of another dtype.
    """
    required(name, **given)
    arrays = taken(name, **given)
    if is_torch(arrays[0]):
        for argument, x in given.items():
            if not is_floating(x):
                raise TypeError(f"{name}: {argument} has dtype {dtype_name(x)}; expected a floating one")
        return arrays
    for argument, x in zip(given, arrays):
        if x.dtype.name not in NUMPY_FLOATS:
            raise TypeError(f"{name}: {argument} has dtype {x.dtype}; expected one of {', '.join(NUMPY_FLOATS)}")
    return arrays


def whole_numbers(name: str, argument: str, x: Array) -> Array:
    """Labels or classes: of any integers of NumPy, which become int64. What is wrong with those of a tensor is for the caller to say."""
    return x if is_torch(x) else integers(name, argument, x)


def is_floating(x: Array) -> bool:
    """Of ml_dtypes, too."""
    return bool(x.is_floating_point()) if is_torch(x) else x.dtype.kind in "fV"


def dtype_name(x: Array) -> str:
    return str(x.dtype).removeprefix("torch.") if is_torch(x) else x.dtype.name


# ---- what autograd and devices ask for ----------------------------------------------------------------------------------------------------


def stop_gradient(x: Array) -> Array:
    return x.detach() if is_torch(x) else untraced(x)


def as_autocast(*arrays: Array) -> tuple[Array, ...]:
    """Tensors in the type that torch.autocast gives the operands of a linear layer."""
    if not is_torch(arrays[0]):
        return arrays
    from ._torch import as_autocast

    return as_autocast(*arrays)


def without_autocast(x: Array) -> Any:
    """While it lives, torch multiplies in the types that it is given."""
    if not is_torch(x):
        return contextlib.nullcontext()
    import torch

    return torch.autocast(x.device.type, enabled=False)


def quiet(loss: Loss) -> Loss:
    """A loss of which NumPy says nothing where a number is infinite or NaN, as torch does."""

    @functools.wraps(loss)
    def run(*arguments: Any, **options: Any) -> Any:
        if has_tensor(*arguments, *options.values()):
            return loss(*arguments, **options)
        with np.errstate(all="ignore"):
            return loss(*arguments, **options)

    return cast(Loss, run)


# ---- making arrays ------------------------------------------------------------------------------------------------------------------------


def promoted(x: Array, y: Array) -> Any:
    """The dtype of a product of two arrays: of NumPy's, that of both, else float64 if one has it, else float32."""
    if is_torch(x):
        return library(x).promote_types(x.dtype, y.dtype)
    return x.dtype if x.dtype == y.dtype else np.dtype(np.float64 if np.float64 in (x.dtype, y.dtype) else np.float32)


def astype(x: Array, dtype: Any) -> Array:
    return x.to(dtype) if is_torch(x) else x.astype(dtype, copy=False) if isinstance(x, np.ndarray) else x.astype(dtype)


def wide(x: Array) -> Any:
    """The dtype of logits: that of x, at least float32."""
    if not is_torch(x):
        return np.dtype(np.float64 if x.dtype.name == "float64" else np.float32)
    import torch

    return torch.promote_types(x.dtype, torch.float32)


def beside(x: Array, place: Array) -> Array:
    """x on the device of place."""
    return x.to(device=place.device) if is_torch(x) else x


def number_like(name: str, argument: str, value: Any, x: Array) -> Array:
    """A number, or what holds one, as an array of x's library, dtype and device, without gradient.

    Raises:
        TypeError: it is None, of NumPy arrays also a tensor or no number.
    """
    if value is None or isinstance(value, (str, bytes)) or (is_torch(value) and not is_torch(x)):
        raise TypeError(f"{name}: {argument} is a {type(value).__name__}; expected a number, or an array as the others are")
    if not is_torch(x):
        return plain_array(name, argument, stop_gradient(value), x.dtype)
    import torch

    try:
        return torch.as_tensor(value, dtype=x.dtype, device=x.device).detach()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{name}: {argument} is {value!r}; expected a number within the range of {dtype_name(x)}") from None


def new_zeros(x: Array, shape: Sequence[int], dtype: Any = None) -> Array:
    dtype = x.dtype if dtype is None else dtype
    return x.new_zeros(shape, dtype=dtype) if is_torch(x) else np.zeros(shape, dtype)


def arange(count: int, x: Array) -> Array:
    """0 to count - 1 in the dtype of x."""
    if not is_torch(x):
        return np.arange(count, dtype=x.dtype)
    import torch

    return torch.arange(count, dtype=x.dtype, device=x.device)


def linspace(first: float, last: float, count: int, x: Array) -> Array:
    """In the dtype of x."""
    if not is_torch(x):
        return np.linspace(first, last, count, dtype=x.dtype)
    import torch

    return torch.linspace(first, last, count, dtype=x.dtype, device=x.device)


def where(keep: Array, x: Array, other: float = 0.0) -> Array:
    """x where it is kept, elsewhere a number, in the dtype of x, from which NumPy 1 departs where x has no dimensions."""
    return library(x).where(keep, x, other if is_torch(x) else x.dtype.type(other))


# ---- formulas -----------------------------------------------------------------------------------------------------------------------------


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """x weight^T + bias."""
    if is_torch(x):
        import torch

        return torch.nn.functional.linear(x, weight, bias)
    product = x @ weight.T
    return product if bias is None else product + bias


def softplus(x: Array) -> Array:
    """log(1 + e^x)."""
    if not is_torch(x):
        return np.logaddexp(x.dtype.type(0), x)
    import torch

    return torch.nn.functional.softplus(x, threshold=40.0)  # where e^-x is below the last bit of x, and e^x far from overflow


def log_sigmoid(x: Array) -> Array:
    """-log(1 + e^-x)."""
    if not is_torch(x):
        return -softplus(-x)
    import torch

    return torch.nn.functional.logsigmoid(x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return library(x).sigmoid(x) if is_torch(x) else np.exp(log_sigmoid(x))


def logsumexp(x: Array, axis: int) -> Array:
    if is_torch(x):
        return library(x).logsumexp(x, axis)
    most = stop_gradient(x).max(axis, keepdims=True, initial=-np.inf)  # whatever it is, the result is the same
    most = np.where(np.isfinite(most), most, x.dtype.type(0))
    with np.errstate(divide="ignore"):  # of e^-inf alone
        return np.log(np.exp(x - most).sum(axis)) + most.squeeze(axis)


def log_softmax(x: Array, axis: int) -> Array:
    return library(x).log_softmax(x, axis) if is_torch(x) else x - np.expand_dims(logsumexp(x, axis), axis)


def softmax(x: Array, axis: int) -> Array:
    return library(x).softmax(x, axis) if is_torch(x) else np.exp(log_softmax(x, axis))


def logcumsumexp(x: Array, axis: int) -> Array:
    return library(x).logcumsumexp(x, axis) if is_torch(x) else np.logaddexp.accumulate(x, axis)


def norm(x: Array) -> Array:
    """Euclidean, of all elements."""
    return x.norm() if is_torch(x) else np.linalg.norm(x)


# ---- elements by their places -------------------------------------------------------------------------------------------------------------


def gather(x: Array, columns: Array) -> Array:
    """x[n, columns[n, i]]."""
    return x.gather(1, columns) if is_torch(x) else x[np.arange(len(x))[:, None], columns]


def scatter(x: Array, columns: Array, value: float) -> Array:
    """A copy of x with that value at [n, columns[n, i]]."""
    if is_torch(x):
        return x.scatter(1, columns, value)
    there = np.zeros(x.shape, bool)
    np.put_along_axis(there, columns, True, 1)
    return np.where(there, x.dtype.type(value), x)


def topk(x: Array, k: int) -> tuple[Array, Array]:
    """The k largest of each row, falling, and their columns."""
    if is_torch(x):
        values, columns = library(x).topk(x, k, 1)
        return values, columns
    falling = -stop_gradient(x)
    columns = np.argpartition(falling, k - 1, 1)[:, :k]
    columns = np.take_along_axis(columns, np.argsort(np.take_along_axis(falling, columns, 1), 1, kind="stable"), 1)
    return gather(x, columns), columns


def sums_by_class(labels: Array, values: Array, classes: int) -> Array:
    """(rows,), (rows,) -> (classes,): the sum of the values of each label."""
    if is_torch(values):
        return values.new_zeros(classes).index_add(0, labels, values)
    return np.bincount(labels, values, classes).astype(values.dtype)


def in_order(x: Array) -> Array:
    """Sorted, rising."""
    return x.sort().values if is_torch(x) else np.sort(x)


def order_of(x: Array) -> Array:
    """Places of x, rising; equal elements in the order of their places."""
    return x.argsort(stable=True) if is_torch(x) else x.argsort(kind="stable")
