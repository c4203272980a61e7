"""Checks that NumPy arrays and torch tensors share, and the core's view of a head. Nothing here imports torch."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from slipstick._arguments import integer, is_torch
from slipstick._core import losses as _core

DEFAULT_WORKSPACE = 64 << 20
CUDA_WORKSPACE = 256 << 20  # tiles wide enough for a GPU: 5120 classes of 8192 rows in bfloat16
BEYOND_FLOATS = 1 << 1023
FORMATS = ("float32", "bfloat16", "float16", "float64")

STATISTICS = ("target", "lse", "mean", "second_moment", "expected", "entropy", "maximum", "argmax", "topk", "collapsed")
# What an attribute is made of; the core's own names.
_PARTS = {"entropy": ("lse", "expected"), "expected": ("lse", "expected"), "topk": (), "collapsed": ("target", "lse")}
CORE_STATISTICS = ("target", "lse", "mean", "second_moment", "expected", "maximum", "argmax")


def call_as(name: str, own: str, function: Callable[..., Any], *arguments: Any, prefix: str = "", **options: Any) -> Any:
    """The function's result; its errors, which begin with its own name, name the function that the user called.

    prefix: of hidden, weight and bias, where the user knows them by other names.
    """
    torch = sys.modules.get("torch")
    if (name == own and not prefix) or (torch is not None and torch.compiler.is_compiling()):
        return function(*arguments, **options)
    try:
        return function(*arguments, **options)
    except (TypeError, ValueError, IndexError) as error:
        if not str(error).startswith(own):
            raise
        text = str(error).removeprefix(own)
        raise type(error)(name + (re.sub(r"\b(hidden|weight|bias)\b", prefix + r"\1", text) if prefix else text)) from None


def number(function: str, name: str, value: Any) -> float:
    """value as a float, which drops no gradient."""
    if is_torch(value) and value.requires_grad:
        raise TypeError(f"{function}: {name} is a tensor that asks for a gradient; expected a number, as it gets none")
    plain = isinstance(value, (int, float)) or is_torch(value)
    try:
        if not plain and (
            isinstance(value, (str, bytes)) or getattr(value, "shape", ()) != ()
        ):  # float reads strings and arrays of one element
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # torch's of a tensor of several elements
        raise TypeError(f"{function}: {name} is {value!r}; expected a number") from None
    except OverflowError:
        raise ValueError(f"{function}: {name} is {value}; expected a number within the range of float64") from None


def shift_of(function: str, shift: Any) -> int:
    """shift as an int: True is 1, as cut_cross_entropy has it."""
    return int(shift) if isinstance(shift, bool) else integer(function, "shift", shift)


def check_flag(function: str, name: str, value: Any) -> None:
    if not isinstance(value, bool) and not (type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")):
        raise TypeError(f"{function}: {name} is {value!r}; expected True or False")


def bias_name(hidden: str) -> str:
    """Of the head whose hidden states have that name."""
    return hidden.removesuffix("hidden") + "bias" if hidden.endswith("hidden") else "bias"


def check_number(name: str, argument: str, value: Any, wanted: str, holds: Callable[[Any], bool]) -> None:
    """Raises where a scalar argument is no number or out of its range; `wanted` says what that is. NaN makes `holds` false."""
    if not isinstance(value, (int, float)) and not (is_torch(value) and value.numel() == 1):
        number(name, argument, value)
    if not holds(value) or (isinstance(value, int) and abs(value) >= BEYOND_FLOATS):
        raise ValueError(f"{name}: {argument} is {value}; expected {wanted}")


def collapsed(target: Any, lse: Any, dtype: str) -> Any:
    """Rows whose sum of exponentials is that of the target alone, rounded to the dtype of the sums; of float64 statistics."""
    return lse - target <= (2.0**-53 if dtype == "float64" else 2.0**-24)


def wanted_names(function: str, want: Any) -> tuple[str, ...]:
    if not isinstance(want, Iterable):
        raise TypeError(f"{function}: want is {want!r}; expected names of statistics")
    return (want,) if isinstance(want, str) else tuple(want)


def wanted_parts(function: str, want: Iterable[str], topk: int, has_targets: bool) -> tuple[str, ...]:
    """The core's statistics for the attributes that are wanted."""
    names = wanted_names(function, want)
    for name in names:
        if name not in STATISTICS:
            raise ValueError(f"{function}: want holds {name!r}; expected some of {str(STATISTICS)[1:-1]}")
    for name in ("target", "collapsed"):
        if name in names and not has_targets:
            raise ValueError(f"{function}: targets is None; expected (rows,) int64, as {name!r} is wanted")
    if "topk" in names and topk <= 0:
        raise ValueError(f"{function}: topk is {topk}; expected a positive number, as 'topk' is wanted")
    parts = {part for name in names for part in _PARTS.get(name, (name,))}
    return tuple(name for name in CORE_STATISTICS if name in parts)


def check_shapes(function: str, hidden: Any, weight: Any, targets: Any, bias: Any, names: tuple[str, str] = ("hidden", "weight")) -> None:
    """Raises where the shapes of a head do not fit each other."""
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"{function}: {names[0]} has shape {tuple(hidden.shape)} and {names[1]} {tuple(weight.shape)}; expected (rows, width) and (vocabulary, width)"
        )
    if weight.shape[0] == 0 and hidden.shape[0] > 0:
        raise ValueError(f"{function}: {names[1]} has 0 rows; expected at least one class")
    if targets is not None and tuple(targets.shape) != (hidden.shape[0],):
        raise ValueError(f"{function}: targets has shape {tuple(targets.shape)}; expected {(hidden.shape[0],)}")
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"{function}: {bias_name(names[0])} has shape {tuple(bias.shape)}; expected {(weight.shape[0],)}")


def check_dtypes(function: str, hidden: str, weight: str, names: tuple[str, str] = ("hidden", "weight")) -> None:
    if hidden not in FORMATS:
        raise TypeError(f"{function}: {names[0]} has dtype {hidden}; expected one of {', '.join(FORMATS)}")
    if hidden != weight:
        raise TypeError(f"{function}: {names[1]} has dtype {weight}; expected {hidden}, that of {names[0]}")


def map_name(function: str, softcap: float | None, logit_map: str | None) -> tuple[str, float]:
    """The core's name of a map of the logits and its parameter."""
    if softcap is not None and logit_map is not None:
        raise ValueError(f"{function}: softcap is {softcap} and logit_map is {logit_map!r}; expected at most one of them")
    if softcap is not None:
        cap = number(function, "softcap", softcap)
        if not 0 < cap < float("inf"):
            raise ValueError(f"{function}: softcap is {softcap}; expected a positive finite number")
        return "softcap", cap
    if logit_map is not None and not (isinstance(logit_map, str) and logit_map == "stablemax"):
        raise ValueError(f"{function}: logit_map is {logit_map!r}; expected None or 'stablemax'")
    return logit_map or "", 0.0


def workspace_bytes(function: str, workspace: int | None, hidden: Any = None) -> int:
    """hidden: what the default is for."""
    if workspace is None:
        return CUDA_WORKSPACE if is_torch(hidden) and hidden.device.type == "cuda" else DEFAULT_WORKSPACE
    if isinstance(workspace, int):
        workspace = min(workspace, 1 << 62)
    check_number(function, "workspace", workspace, "a positive number of bytes", lambda x: 1 <= x < float("inf"))
    return min(int(workspace), 1 << 62)  # it may be a float


def filter_bound(function: str, filter_eps: float | str | None, dtype: str) -> float:
    """None is exact; "auto" is that of Wijmans et al. 2024, 1/32 of the unit of the dtype."""
    if filter_eps is None:
        return 0.0
    if isinstance(filter_eps, str) and filter_eps == "auto":
        return {"float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10, "float64": 2.0**-52}[dtype] / 32
    wanted = "None, 'auto' or a number from 0 to below 1"
    if isinstance(filter_eps, str):
        raise ValueError(f"{function}: filter_eps is {filter_eps!r}; expected {wanted}")
    check_number(function, "filter_eps", filter_eps, wanted, lambda x: 0 <= x < 1)
    return number(function, "filter_eps", filter_eps)


def check_topk(function: str, topk: int, vocabulary: int) -> None:
    most = min(_core.MAX_TOPK, vocabulary)
    if not 0 <= topk <= most:
        raise ValueError(f"{function}: topk is {topk}; expected 0 to {most}, the least of {_core.MAX_TOPK} and the vocabulary")


def check_target_range(function: str, targets: Any, vocabulary: int, ignore_index: int) -> None:
    """Raises IndexError, as torch does, where a label that counts is no class."""
    if len(targets) == 0 or (int(targets.min()) >= 0 and int(targets.max()) < vocabulary):  # fewer steps than the full question
        return
    wrong = (targets != ignore_index) & ((targets < 0) | (targets >= vocabulary))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0][0])
        raise IndexError(
            f"{function}: targets[{row}] is {int(targets[row])}; expected 0 to {vocabulary - 1}, or {ignore_index} for a row to be ignored"
        )
