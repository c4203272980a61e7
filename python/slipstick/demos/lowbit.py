"""Rounds numbers to several small formats and says how fast and how much is lost, beside a plain copy and what NumPy or torch users have."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from slipstick import lowbit

from ._report import Report, short, timed

COUNT = 1 << 23
REPEATS = 3
FORMATS = ("e4m3fn", "e5m2", "e2m1", "e5m10")


def run() -> Report:
    x = np.random.default_rng(0).standard_normal(COUNT).astype(np.float32)
    rows = [_row(f"slipstick {name}", functools.partial(lowbit.quantize, x, name), x) for name in FORMATS]
    rows += [_row(name, work, x) for name, work in _peers(x)]
    return Report(
        title=f"lowbit: what {COUNT:,} normal float32 numbers become in small formats.",
        head=("", "GB/s", "SQNR dB"),
        rows=rows,
        meaning="slipstick rounds to any format at about the speed of a copy, exactly as the format's definition says."
        " GB/s: bytes read per CPU second, best of three. SQNR: signal to rounding noise; 6 dB is one bit.",
        command="rounded = lowbit.quantize(x, 'e4m3fn')",
    )


def _row(name: str, work: Callable[[], Any], x: np.ndarray[Any, Any]) -> tuple[str, ...]:
    result, seconds = min((timed(work) for _ in range(REPEATS)), key=lambda pair: pair[1])
    wide = x.astype(np.float64)
    noise = float(np.square(wide - np.asarray(result, np.float64)).sum())
    sqnr = short(10 * float(np.log10(np.square(wide).sum() / noise))) if noise else "exact"
    return name, short(x.nbytes / seconds / 1e9), sqnr


def _peers(x: np.ndarray[Any, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "numpy copy", x.copy
    if importlib.util.find_spec("ml_dtypes"):
        import ml_dtypes

        yield "ml_dtypes e4m3fn", lambda: x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    if importlib.util.find_spec("torch"):
        import torch

        tensor = torch.from_numpy(x)
        yield "torch e4m3fn", lambda: tensor.to(torch.float8_e4m3fn).to(torch.float32).numpy()
