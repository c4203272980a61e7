"""What libraries are asked in tests of their profiles, how they are asked, and inputs where they differ from the definition.

microxcaling is no package of an index: from a checkout of github.com/microsoft/microxcaling, put its folder on PYTHONPATH. qtorch compiles itself
when it is imported, into TORCH_EXTENSIONS_DIR. pychop is a package of PyPI.
"""

from __future__ import annotations

import numpy as np

from slipstick import lowbit
from slipstick.lowbit import Format

MODES = {"nearest_even": "even", "nearest_away": "nearest", "toward_zero": "floor"}
# Names of ours and of microxcaling's.
ELEMENTS = {
    "e5m2": "fp8_e5m2", "e4m3fn": "fp8_e4m3", "e3m2fn": "fp6_e3m2", "e2m3fn": "fp6_e2m3", "e2m1fn": "fp4", "fp16": "fp16", "bf16": "bf16",
    "mxint8_element": "int8",
}  # fmt: skip
BLOCKS = {
    "mxfp8": "fp8_e4m3", "mxfp8_e5m2": "fp8_e5m2", "mxfp6": "fp6_e3m2", "mxfp6_e2m3": "fp6_e2m3", "mxfp4": "fp4", "mxint8": "int8",
}  # fmt: skip
FLOATS = [(5, 2), (4, 3), (3, 2), (2, 3), (2, 1), (5, 10), (8, 7), (6, 9), (8, 3), (7, 1)]
FIXED = [(8, 4, False), (8, 4, True), (4, 0, False), (16, 12, False), (8, -2, True), (24, 3, False)]  # bits, fraction bits, symmetric
RMODES = {"nearest_even": 1, "up": 2, "down": 3, "toward_zero": 4}  # pychop's
# Profile, what it is asked, rounding. Overflow is the format's own, so e5m2, fp16 and bf16 reach infinity.
CASES = [
    *(("microxcaling", name, mode) for name in (*ELEMENTS, *BLOCKS) for mode in MODES),
    *(("microxcaling", f"{name} saturating", "nearest_even") for name in ("e5m2", "fp16", "bf16")),
    *(("qtorch", f"e{exponent}m{mantissa}", "nearest_away") for exponent, mantissa in FLOATS),
    *(("qtorch", f"fixed {bits} {fraction} {symmetric:d}", "nearest_away") for bits, fraction, symmetric in FIXED),
    *(("pychop", name, mode) for name in ("e5m2", "e4m3", "e2m1", "e5m10", "e8m7", "fixed 8 4 0", "fixed 4 0 0") for mode in RMODES),
]


def format_of(name: str):
    if name.startswith("fixed"):
        bits, fraction, symmetric = map(int, name.split()[1:])
        return Format.integer(bits, fraction_bits=fraction, symmetric=bool(symmetric))
    if name[0] == "e" and name[-1].isdigit() and name not in ELEMENTS:
        return Format(*map(int, name[1:].split("m")))
    fmt = lowbit.format(name.removesuffix(" saturating"))
    return fmt.replace(overflow="saturate") if name.endswith(" saturating") else fmt


def inputs(name: str, *, most: int) -> np.ndarray:
    """About `most` float32: numbers and midpoints of the format and their neighbours, what lies below powers of two, any words, special ones."""
    rng = np.random.default_rng(0)
    below = (np.arange(1, 256, dtype=np.uint32) << 23)[:, None] - np.array([0, 1, 2, 11, 44, 60], np.uint32)
    special = np.array([0, 0x7F800000, 0x7F7FFFFF, 1, 0x7FC00000, 0x7F800001, 0x7FFFFFFF], np.uint32)
    if name in BLOCKS:
        scale = np.exp2(rng.integers(-140, 120, most // 64)).repeat(64)
        x = (rng.standard_normal(scale.size) * scale).astype(np.float32)
        x[7::64] = rng.permutation(np.resize(below.view(np.float32).ravel(), x[7::64].size))
        x[40::96] = np.resize(np.concatenate([special.view(np.float32), x[40::96][:20]]), x[40::96].size)
        return x[: x.size // 70 * 70].reshape(-1, 70)
    fmt = format_of(name)
    numbers = (
        np.linspace(fmt.min, fmt.max, most // 8) if fmt.bits > 16 else lowbit.decode(np.arange(2**fmt.bits, dtype=fmt.code_dtype), fmt)
    )
    numbers = np.unique(numbers[np.isfinite(numbers)]).astype(np.float64)
    if numbers.size > most // 8:
        numbers = np.sort(np.concatenate([rng.choice(numbers, most // 8 - 8), numbers[numbers >= 0][:4], numbers[-4:]]))
    middle = ((numbers[1:] + numbers[:-1]) / 2).astype(np.float32)
    telling = np.concatenate([numbers.astype(np.float32), middle])
    with np.errstate(over="ignore"):
        telling = np.concatenate([telling, *(np.nextafter(telling, np.float32(end)) for end in (-np.inf, np.inf))])
    words = np.concatenate([rng.permutation(below.ravel())[: most // 8], rng.integers(0, 2**31, most // 8, dtype=np.uint32), special])
    return np.concatenate([telling, words.view(np.float32), (words | np.uint32(0x80000000)).view(np.float32)])


def answer(profile: str, name: str, mode: str, x: np.ndarray) -> np.ndarray:
    """The library's. ImportError where it is not installed."""
    import torch

    given, fmt = torch.from_numpy(x.copy()), format_of(name)
    if profile == "qtorch":
        from qtorch.quant import fixed_point_quantize, float_quantize

        if fmt.kind == "float":
            return float_quantize(given, fmt.exponent_bits, fmt.mantissa_bits, rounding="nearest").numpy()
        return fixed_point_quantize(given, fmt.bits, fmt.fraction_bits, symmetric=fmt.symmetric, rounding="nearest").numpy()
    if profile == "pychop":
        from pychop.np.fixed_point import FPRound_
        from pychop.np.lightchop import LightChop_

        if fmt.kind == "float":
            return LightChop_(fmt.exponent_bits, fmt.mantissa_bits, RMODES[mode], chunk_size=x.size).quantize(x)
        return FPRound_(fmt.bits - fmt.fraction_bits, fmt.fraction_bits, RMODES[mode]).quantize(x)
    from mx.elemwise_ops import _quantize_elemwise
    from mx.mx_ops import _quantize_mx

    if name in BLOCKS:
        return _quantize_mx(given, 8, BLOCKS[name], axes=[-1], block_size=32, round=MODES[mode]).numpy()
    saturates = fmt.kind == "integer" or fmt.overflow == "saturate"
    element = ELEMENTS[name.removesuffix(" saturating")]
    return _quantize_elemwise(given, element, round=MODES[mode], saturate_normals=saturates).numpy()
