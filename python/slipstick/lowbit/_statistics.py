"""statistics: what a format does to an array, counted in the pass that quantizes it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from slipstick._core import lowbit as _core

from . import _arrays
from ._format import Format
from ._quantize import _delivered, format


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Counts of elements x and of their results q; sums are over the pairs that are both finite."""

    count: int
    nan: int
    """x that are NaN."""
    infinite: int
    """x that are infinite."""
    zero: int
    """x that are 0."""
    saturated: int
    """x beyond the greatest number of the format, infinity included, whatever overflow makes of them."""
    zeroed: int
    """x that are not 0 and became 0."""
    subnormal: int
    """q that are subnormal numbers of the format; 0 for code books."""
    signal: float
    """Sum of x^2."""
    noise: float
    """Sum of (q - x)^2."""
    max_ulp_error: float
    """Greatest |q - x| in units of the format's last place at x, of x that are not beyond its range; 0 for code books."""
    max_error: float
    """Greatest |q - x|, correct to 1 unit of float32."""
    exponents: np.ndarray
    """int64 of shape (256,): x by floor(log2 |x|) + 127; zeros and float32's subnormals first, infinity and NaN last."""

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise in decibels, 10 log10(signal / noise); inf without noise, NaN of nothing."""
        if self.noise == 0:
            return math.inf if self.signal > 0 else math.nan
        return 10 * math.log10(self.signal / self.noise) if self.signal > 0 else -math.inf


def statistics(
    x: Any,
    fmt: str | Format,
    *,
    rounding: str = "nearest_even",
    seed: int = 0,
    stream: int = 0,
    random_bits: int = 32,
    out: Any = None,
    threads: int | None = None,
) -> Statistics:
    """Statistics of quantize(x, fmt, ...), whose result goes to `out` in the same pass if that is given.

    Args:
        As quantize takes them, tensors on CUDA included; fmt without scales.
    Notes:
        float64 is counted as the float32 that quantize rounds from (rounded to odd). Sums are of float64, in an order that depends neither on
        threads nor on the instruction set nor, for tensors on CUDA, on the device, so that they are equal bit for bit.
    """
    form = format(fmt)
    if not isinstance(form, Format):
        raise TypeError(f"statistics: fmt is the scaled format {form.name}; expected one without scales")
    mode = _arrays.rounding_number("statistics", rounding)
    random = _arrays.random_numbers("statistics", seed, stream, random_bits)
    count = _arrays.thread_count("statistics", threads)
    if _arrays.is_torch(x):
        return _of_tensor(x, form, mode, random, out, count)
    array = _arrays.float_array("statistics", x)
    result, copy_to = (None, None) if out is None else _arrays.result_array("statistics", out, array, array.dtype)
    target = 0 if result is None else _arrays.address(result)
    found = _core.statistics(form._core, mode, *random, _arrays.DTYPES[array.dtype.name], _arrays.address(array), target, array.size, count)
    if result is not None:
        _delivered(result, copy_to)
    return _made(found)


def _of_tensor(x: Any, form: Format, mode: int, random: tuple[int, int, int], out: Any, count: int) -> Statistics:
    from . import _torch

    _torch._check_float("statistics", x)
    _torch._require_device("statistics", x)
    if x.device.type == "cuda":
        from . import _cuda

        if out is not None:
            _torch._check_out("statistics", x, out, x.dtype)
        return _made(_cuda.statistics(x, form, mode, random, out))
    plain = _torch._on_cpu("statistics", x)
    target = None
    if out is not None:
        _torch._check_out("statistics", x, out, x.dtype)
        target = plain.new_empty(plain.shape)
    address = 0 if target is None else target.data_ptr()
    found = _core.statistics(form._core, mode, *random, _torch.DTYPES[x.dtype], plain.data_ptr(), address, plain.numel(), count)
    if target is not None:
        out.detach().copy_(target)
    return _made(found)


def _made(found: dict[str, Any]) -> Statistics:
    return Statistics(**{**found, "exponents": np.array(found["exponents"], np.int64)})
