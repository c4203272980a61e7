"""Writes the conformance vectors beside it, from the oracle of the tests:  python tests/golden/lowbit/make.py"""

from __future__ import annotations

import json
import math
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))

from lowbit_oracle import DETERMINISTIC, Oracle, telling_inputs

from slipstick import lowbit

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ("e5m2", "e4m3fn", "e4m3fnuz", "e3m2fn", "e2m3fn", "e2m1fn")


def word(value: float) -> str:
    with np.errstate(over="ignore"):
        return f"{int(np.float32(value).view(np.uint32)):08x}"


def vectors(name: str) -> dict:
    fmt = lowbit.format(name)
    oracle = Oracle(fmt)
    inputs = telling_inputs(oracle)
    inputs = np.unique((inputs if fmt.has_nan else inputs[~np.isnan(inputs)]).view(np.uint32)).view(np.float32)
    numbers = []
    for code in range(2**fmt.bits):
        sign, magnitude = divmod(code, 2 ** (fmt.bits - 1))
        if magnitude <= oracle.most[1] and (sign == 0 or magnitude or fmt.has_negative_zero):
            numbers.append(oracle.as_float((-1) ** sign * oracle.magnitudes[magnitude], (-1) ** sign))
        else:
            infinite = fmt.has_infinity and magnitude == oracle.most[1] + 1
            numbers.append((-1) ** sign * math.inf if infinite else math.nan)
    fields = ("exponent_bits", "mantissa_bits", "bias", "specials", "signed", "bits", "overflow")
    return {
        "name": name,
        **{field: getattr(fmt, field) for field in fields},
        "numbers": [word(number) for number in numbers],
        "inputs": [f"{value:08x}" for value in inputs.view(np.uint32).tolist()],
        "codes": {mode: "".join(f"{oracle.code(oracle.round(float(x), mode)):02x}" for x in inputs) for mode in DETERMINISTIC},
    }


if __name__ == "__main__":
    for name in NAMES:
        (HERE / f"{name}.json").write_text(json.dumps(vectors(name), separators=(",", ":")) + "\n", "ascii")
