"""Checks of arguments that the studies share; each error names the function and the argument, what it got and what it wants."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstick._arguments import is_torch as is_torch


def integer(where: str, name: str, value: Any, low: int, high: int | None = None) -> int:
    """value as an int within [low, high]."""
    wanted = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: {name} is {value!r}; expected {wanted}") from None
    if number < low or (high is not None and number > high):
        raise ValueError(f"{where}: {name} is {number}; expected {wanted}")
    return number


def real(where: str, name: str, value: Any, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> float:
    """value as a finite float, greater than above and within [least, most]."""
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{where}: {name} is {value!r}; expected a number") from None
    if not (math.isfinite(number) and number > above and least <= number <= most):
        bounds = [f"greater than {above:g}"] if above > -math.inf else []
        bounds += [f"at least {least:g}"] if least > -math.inf else []
        bounds += [f"at most {most:g}"] if most < math.inf else []
        raise ValueError(f"{where}: {name} is {number!r}; expected a finite number" + "".join(f", {bound}" for bound in bounds))
    return number


def array(where: str, name: str, value: Any, *, dimensions: int | None = None, finite: bool = True, empty: bool = False) -> NDArray[Any]:
    """value as a float64 array of that many dimensions; floats, integers and torch tensors are taken, and copied where the dtype differs."""
    result = numpy_of(value)
    if result.dtype.kind not in "iuf":
        raise TypeError(f"{where}: {name} has dtype {result.dtype}; expected real numbers")
    if dimensions is not None and result.ndim != dimensions:
        raise ValueError(f"{where}: {name} has {result.ndim} dimensions; expected {dimensions}")
    if not empty and result.size == 0:
        raise ValueError(f"{where}: {name} is empty; expected at least one element")
    result = result.astype(np.float64, copy=False)
    if finite and not np.isfinite(result).all():
        raise ValueError(f"{where}: {name} holds NaN or infinity; expected finite numbers")
    return result


def numpy_of(value: Any) -> NDArray[Any]:
    """value as an array; a torch tensor without its gradient. Small floats that NumPy does not know, of torch and ml_dtypes, come in float64."""
    if is_torch(value):
        plain = value.detach().cpu()
        return np.asarray((plain.double() if plain.is_floating_point() else plain).numpy())
    result = np.asarray(value)
    foreign = result.dtype.kind == "V" and result.dtype.name.startswith(("bfloat", "float"))
    return result.astype(np.float64) if foreign else result
