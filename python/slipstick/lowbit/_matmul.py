"""matmul: a matrix product whose accumulator is kept in a small format, exact to its definition."""

from __future__ import annotations

from typing import Any

import numpy as np

from slipstick._core import lowbit as _core

from . import _arrays
from ._format import Format
from ._quantize import format, quantize


def matmul(
    a: Any,
    b: Any,
    *,
    inputs: Any = None,
    accumulate: str | Format | None = "fp16",
    round_every: int | str = 1,
    rounding: str = "nearest_even",
    threads: int | None = None,
) -> Any:
    """a @ b with the accumulator rounded to a format on the way.

    Args:
        a: (rows, inner) float32 NumPy array or torch tensor, on the CPU or, with slipstick-cu13, on CUDA.
        b: (inner, columns), likewise.
        inputs: a format, or a pair for a and b, to which they are quantized first (nearest even); None leaves them.
        accumulate: the format of the accumulator; a float or integer format. None keeps float32.
        round_every: k, or "end": after how many products the accumulator is rounded; it is rounded after the last in any case.
        rounding: of the accumulator; any mode but "stochastic".
        threads: positive int; default see slipstick.set_num_threads. Does not change a bit of the result.
    Returns:
        (rows, columns) float32, of a's kind. The gradient of a tensor result passes straight through all roundings: gradient @ b.T and
        a.T @ gradient by torch, with a and b as quantized to `inputs`.
    Raises:
        TypeError, ValueError: shapes or types do not match; UnsupportedError: stochastic rounding, or a code book as accumulator.
    Notes:
        Definition: s = 0; for k in order, s = fma(a[i, k], b[k, j], s) in float32; after each round_every steps and the last, s is rounded.
        Zeros of the result are +0.
        With at most 11 bits of significand that equals one rounding of the exact sum while the sum is a normal number (Figueroa 1995).
        Equal for any number of threads and any instruction set.
    """
    where = "matmul"
    if round_every == "end":
        steps = 0
    else:
        steps = _arrays.integer(where, "round_every", round_every)
        if steps < 1:
            raise ValueError(f"{where}: round_every is {steps}; expected a positive number or 'end'")
    mode = _arrays.rounding_number(where, rounding)
    count = _arrays.thread_count(where, threads)
    if inputs is not None:
        pair = inputs if isinstance(inputs, tuple) else (inputs, inputs)
        if len(pair) != 2:
            raise ValueError(f"{where}: inputs has {len(pair)} formats; expected one, or a pair for a and b")
        a, b = (x if fmt is None else quantize(x, fmt, threads=threads) for x, fmt in zip((a, b), pair, strict=True))
    tensors = _arrays.is_torch(a)
    if tensors != _arrays.is_torch(b):
        raise TypeError(f"{where}: a is a {type(a).__name__} and b a {type(b).__name__}; expected two of a kind")
    if tensors:
        from . import _torch

        return _torch.matmul(a, b, accumulate, steps, rounding, count)
    form = None if accumulate is None else check_accumulator(format(accumulate))
    left, right = np.asarray(a), np.asarray(b)
    _arrays.check_operands(where, left, right)
    left, right = (np.ascontiguousarray(x) for x in (left, right))
    product = np.empty((left.shape[0], right.shape[1]), np.float32)
    sizes = (left.shape[0], left.shape[1], right.shape[1])
    addresses = (_arrays.address(left), _arrays.address(right), _arrays.address(product))
    _core.matmul(None if form is None else form._core, mode, steps, *addresses, *sizes, count)
    return product


def check_accumulator(form: Any) -> Format:
    if not isinstance(form, Format):
        raise TypeError(f"matmul: accumulate is the scaled format {form.name}; expected one without scales")
    return form
