"""Formats by name: those of OCP, torch, ml_dtypes, IEEE and P3109, and the pattern of E and M bits."""

from __future__ import annotations

import functools
import re
from typing import Any

from ._format import Format

# The 16 levels of NF4 as QLoRA's code has them (Dettmers et al. 2023, arXiv:2305.14314, appendix E): quantiles of the normal law.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


def _float(exponent_bits: int, mantissa_bits: int, **options: Any) -> Any:
    return functools.partial(Format, exponent_bits, mantissa_bits, **options)


def _scale() -> Any:
    """E8M0: the powers of two from 2^-127 to 2^127, no sign, no zero; what is smaller becomes 2^-127."""
    return functools.partial(Format.codebook, [2.0**k for k in range(-127, 128)], bits=8, nan_code=255)


# Names as ml_dtypes has them without "float8_" and its like, and as OCP's papers have them.
PRESETS: dict[str, Any] = {
    "e5m2": _float(5, 2),
    "e4m3fn": _float(4, 3, specials="finite_nan"),
    "e4m3": _float(4, 3),
    "e3m4": _float(3, 4),
    "e4m3fnuz": _float(4, 3, specials="fnuz"),
    "e5m2fnuz": _float(5, 2, specials="fnuz"),
    "e4m3b11fnuz": _float(4, 3, specials="fnuz", bias=11),
    "e3m2fn": _float(3, 2, specials="none"),
    "e2m3fn": _float(2, 3, specials="none"),
    "e2m1fn": _float(2, 1, specials="none"),
    "e8m0fnu": _scale(),
    "bf16": _float(8, 7),
    "fp16": _float(5, 10),
    "tf32": _float(8, 10),
    "fp32": _float(8, 23),
    "nf4": functools.partial(Format.codebook, NF4, bits=4),
    # The elements of MXINT8: multiples of 2^-6. The code of -2 is left out, as OCP recommends.
    "mxint8_element": functools.partial(Format.integer, 8, fraction_bits=6, symmetric=True),
}
ALIASES = {
    "e3m2": "e3m2fn",
    "e2m3": "e2m3fn",
    "e2m1": "e2m1fn",
    "e8m0": "e8m0fnu",
    "fp4": "e2m1fn",
    "float4_e2m1fn_x2": "e2m1fn",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "e8m7": "bf16",
    "e5m10": "fp16",
    "e8m10": "tf32",
    "e8m23": "fp32",
}
SUFFIXES = {"": "ieee", "fn": "finite_nan", "fnuz": "fnuz", "finite": "none"}


def names() -> list[str]:
    """All names of presets; `format` knows patterns besides."""
    return sorted({*PRESETS, *ALIASES})


@functools.lru_cache(maxsize=1024)
def preset(name: str) -> Format | None:
    """The format of a name, or None."""
    name = name.removeprefix("torch.")
    short = re.sub(r"^float\d+_(?=e\d)", "", name) if name not in ALIASES else name
    short = ALIASES.get(short, short)
    if short in PRESETS:
        return PRESETS[short](name=short)
    if match := re.fullmatch(r"e(\d+)m(\d+)(?:b(\d+))?(fn|fnuz|finite|)", short):
        bias = int(match[3]) if match[3] else None
        return Format(int(match[1]), int(match[2]), specials=SUFFIXES[match[4]], name=short, bias=bias)
    if match := re.fullmatch(r"binary(\d+)p(\d+)", short):
        exponent_bits = int(match[1]) - int(match[2])
        return Format(exponent_bits, int(match[2]) - 1, specials="p3109", name=short)
    if match := re.fullmatch(r"(u?)int(\d+)", short):
        return Format.integer(int(match[2]), signed=not match[1], name=short)
    if match := re.fullmatch(r"(u?)fixed(\d+)\.(\d+)", short):
        return Format.integer(int(match[2]), fraction_bits=int(match[3]), signed=not match[1], name=short)
    if match := re.fullmatch(r"posit(\d+)(?:_(\d+))?", short):
        return Format.posit(int(match[1]), int(match[2] or 2), name=short)
    return None
