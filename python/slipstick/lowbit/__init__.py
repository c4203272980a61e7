"""What a number format would do to a model: any small float, integer, fixed point, code book or block format, every rounding, exact, fast.

>>> import numpy as np
>>> from slipstick import lowbit
>>> lowbit.quantize(np.float32([0.1, 500.0, -3.3]), "e4m3fn").tolist()
[0.1015625, 448.0, -3.25]
>>> lowbit.encode(np.float32([1.0, -6.0]), "e2m1").tolist()
[2, 15]
>>> lowbit.format("e5m2").max
57344.0

Works on NumPy arrays and on torch tensors of the CPU and, with slipstick-cu13, of CUDA; torch is imported only when a tensor comes, or `Linear` and `emulate` are asked for.
Every result is exact to the format's definition and equal for any number of threads, any instruction set and any strides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._arrays import ROUNDINGS
from ._format import Format
from ._matmul import matmul
from ._presets import names
from ._profiles import PROFILES
from ._quantize import decode, encode, format, pack, quantize, unpack
from ._scaled import Encoded, ScaledFormat
from ._statistics import Statistics, statistics

if TYPE_CHECKING:
    from ._emulate import Emulation, Linear, emulate

__all__ = [
    "PROFILES",
    "ROUNDINGS",
    "Emulation",
    "Encoded",
    "Format",
    "Linear",
    "ScaledFormat",
    "Statistics",
    "decode",
    "emulate",
    "encode",
    "format",
    "matmul",
    "names",
    "pack",
    "quantize",
    "statistics",
    "unpack",
]


if not TYPE_CHECKING:  # a checker would take every name for one of these

    def __getattr__(name: str) -> Any:
        if name in ("Emulation", "Linear", "emulate"):
            from . import _emulate

            return getattr(_emulate, name)
        raise AttributeError(f"module 'slipstick.lowbit' has no attribute {name!r}")
