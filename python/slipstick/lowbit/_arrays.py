"""Arrays as addresses: what quantize and its like need of a NumPy array, and the checks that every entry point shares."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np

from slipstick._arguments import integer as integer
from slipstick._arguments import is_torch as is_torch
from slipstick._arguments import thread_count as thread_count

ROUNDINGS = ("nearest_even", "nearest_away", "toward_zero", "up", "down", "to_odd", "stochastic")
DTYPES = {"float32": 0, "float64": 1, "bfloat16": 2, "float16": 3}  # as Dtype in slipstick/lowbit.h


def dtype_name(where: str, dtype: Any) -> str:
    """The name among DTYPES of a type given by name, or as NumPy's or torch's."""
    name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
    if name not in DTYPES and not isinstance(dtype, str) and dtype is not None:
        with contextlib.suppress(TypeError):
            name = np.dtype(dtype).name
    if name not in DTYPES:
        raise TypeError(f"{where}: dtype is {name}; expected {', '.join(DTYPES)}")
    return name


def rounding_number(where: str, rounding: Any) -> int:
    if rounding not in ROUNDINGS:
        raise ValueError(f"{where}: rounding is {rounding!r}; expected one of {', '.join(ROUNDINGS)}")
    return ROUNDINGS.index(rounding)


def random_numbers(where: str, seed: Any, stream: Any, random_bits: Any) -> tuple[int, int, int]:
    seed, stream, random_bits = (integer(where, *pair) for pair in (("seed", seed), ("stream", stream), ("random_bits", random_bits)))
    if not 0 <= seed < 2**64:
        raise ValueError(f"{where}: seed is {seed}; expected 0 to 2^64 - 1")
    if not 0 <= stream < 2**32:
        raise ValueError(f"{where}: stream is {stream}; expected 0 to 2^32 - 1")
    if random_bits not in (8, 16, 32):
        raise ValueError(f"{where}: random_bits is {random_bits}; expected 8, 16 or 32")
    return seed, stream, random_bits


@functools.lru_cache(maxsize=64)
def name_of(dtype: np.dtype) -> str:
    """Its name, for which NumPy takes as long as all else that a small array costs."""
    return dtype.name


def float_array(where: str, x: Any) -> np.ndarray:
    """x as a C-contiguous array of a float type that kernels read."""
    array = np.asarray(x)
    if name_of(array.dtype) not in DTYPES:
        raise TypeError(f"{where}: x has dtype {array.dtype}; expected {', '.join(DTYPES)}")
    return _plain(array)


def code_array(where: str, codes: Any, dtype: str) -> np.ndarray:
    array = np.asarray(codes)
    if array.dtype.newbyteorder("=") != np.dtype(dtype):
        raise TypeError(f"{where}: codes has dtype {array.dtype}; expected {dtype}")
    return _plain(array)


def _plain(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def check_operands(where: str, a: Any, b: Any) -> None:
    """Of a product: arrays or tensors."""
    for name, x in (("a", a), ("b", b)):
        if str(x.dtype).rpartition(".")[2] != "float32" or x.ndim != 2:
            raise TypeError(f"{where}: {name} is {x.dtype} of {x.ndim} dimensions; expected float32 of 2")
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"{where}: a has {a.shape[1]} columns and b {b.shape[0]} rows; expected equal numbers")


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def result_array(where: str, out: Any, x: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """An array that the kernel can write for input x, and the user's array that it must then be copied to, if it is another."""
    if out is None:
        return np.empty(x.shape, dtype), None
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{where}: out is a {type(out).__name__}; expected a NumPy array like x")
    if out.shape != x.shape or out.dtype != np.dtype(dtype):
        raise ValueError(f"{where}: out is {out.dtype} of shape {out.shape}; expected {np.dtype(dtype)} of shape {x.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{where}: out is read-only")
    plain = out.flags.c_contiguous and out.dtype.isnative
    same = plain and address(out) == address(x) and out.itemsize == x.itemsize
    if plain and (same or not np.may_share_memory(out, x)):
        return out, None
    return np.empty(x.shape, dtype), out
