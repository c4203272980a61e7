"""The code books that have a rule: posits, powers and logarithms, as arguments of Format.codebook."""

from __future__ import annotations

import math
from typing import Any


def posit_value(code: int, bits: int, es: int) -> float:
    """Of a code from 1 to 2^(bits-1) - 1; exact. Posit standard of 2022: sign, regime (a run of equal bits), es exponent bits, fraction."""
    left = bits - 1
    first = code >> (left - 1) & 1
    run = 0
    while run < left and (code >> (left - 1 - run) & 1) == first:
        run += 1
    regime = run - 1 if first else -run
    rest_bits = max(left - run - 1, 0)
    rest = code & ((1 << rest_bits) - 1)
    exponent_held = min(es, rest_bits)
    exponent = (rest >> (rest_bits - exponent_held)) << (es - exponent_held)
    fraction_bits = rest_bits - exponent_held
    fraction = rest & ((1 << fraction_bits) - 1)
    return math.ldexp(1 + fraction / (1 << fraction_bits), regime * (1 << es) + exponent)


def posit_codebook(bits: int, es: int) -> dict[str, Any]:
    if not 3 <= bits <= 16:
        raise ValueError(f"Format.posit: bits is {bits}; expected 3 to 16")
    if not 0 <= es <= 7 or (bits - 2) << es > 126:
        raise ValueError(f"Format.posit: es is {es}; expected 0 or more, and numbers within float32: (bits - 2) 2^es at most 126")
    positive = [posit_value(code, bits, es) for code in range(1, 1 << (bits - 1))]
    # Nearest even on codes compares with the posit of one bit more that lies between. Next to 0, keep_nonzero decides instead.
    between = [positive[0] / 2, *(posit_value(2 * code + 1, bits + 1, es) for code in range(1, (1 << (bits - 1)) - 1))]
    sign = 1 << bits
    return {
        "values": [*(-value for value in reversed(positive)), 0.0, *positive],
        "codes": [*(sign - code for code in range(len(positive), 0, -1)), 0, *range(1, len(positive) + 1)],
        "thresholds": [*(-value for value in reversed(between)), *between],
        "bits": bits,
        "nan_code": 1 << (bits - 1),
        "keep_nonzero": True,
    }


def power_codebook(bits: int, exponent: float) -> dict[str, Any]:
    if not 2 <= bits <= 16:
        raise ValueError(f"Format.power: bits is {bits}; expected 2 to 16")
    if not 0 < exponent < math.inf:
        raise ValueError(f"Format.power: exponent is {exponent}; expected a positive number")
    most = 2 ** (bits - 1) - 1

    def root(level: float) -> float:
        return float((level / most) ** (1 / exponent))

    positive = [root(level) for level in range(1, most + 1)]
    between = [root(level + 0.5) for level in range(most)]
    return {
        "values": [*(-value for value in reversed(positive)), 0.0, *positive],
        "codes": [level % 2**bits for level in range(-most, most + 1)],
        "thresholds": [*(-value for value in reversed(between)), *between],
        "bits": bits,
    }


def logarithmic_codebook(bits: int, fraction_bits: int, greatest: float) -> dict[str, Any]:
    if not 2 <= bits <= 16:
        raise ValueError(f"Format.logarithmic: bits is {bits}; expected 2 to 16")
    if not 0 < greatest < math.inf:
        raise ValueError(f"Format.logarithmic: greatest is {greatest}; expected a positive number")
    count = 2 ** (bits - 1) - 1
    step = 2.0**-fraction_bits
    if (count - 1) * step > 126 + math.log2(greatest):
        raise ValueError(
            f"Format.logarithmic: {count} magnitudes of {step:g} octaves below {greatest:g} reach beyond float32; expected more fraction_bits or fewer bits"
        )
    positive = [greatest * 2.0 ** (-step * k) for k in range(count - 1, -1, -1)]
    # 0 has no logarithm; what is nearer to the smallest magnitude than to 0 becomes that.
    between = [positive[0] / 2, *(greatest * 2.0 ** (-step * (k + 0.5)) for k in range(count - 2, -1, -1))]
    return {
        "values": [*(-value for value in reversed(positive)), 0.0, *positive],
        "codes": [*(2 ** (bits - 1) + k for k in range(count, 0, -1)), 0, *range(1, count + 1)],
        "thresholds": [*(-value for value in reversed(between)), *between],
        "bits": bits,
    }
