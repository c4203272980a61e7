# Contract: the conformance vectors that others use are those that our kernels give, and none was changed.
from __future__ import annotations

import hashlib
import json
import pathlib

import numpy as np
import pytest

from slipstick import lowbit

pytestmark = pytest.mark.kernel

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "golden" / "lowbit"
KNOWN = {
    "e5m2": "53613d395cc67783",
    "e4m3fn": "285e9c2c36d03e3f",
    "e4m3fnuz": "113203feb96e8f75",
    "e3m2fn": "6427a9093c286156",
    "e2m3fn": "8af3e6da4e82be52",
    "e2m1fn": "b16fee5a80f9c4f2",
}


@pytest.mark.parametrize("name", ["e5m2", "e4m3fn", "e4m3fnuz", "e3m2fn", "e2m3fn", "e2m1fn"])
def test_the_kernels_give_the_conformance_vectors(name):
    text = (FOLDER / f"{name}.json").read_bytes()
    assert hashlib.sha256(text).hexdigest()[:16] == KNOWN[name]
    vectors = json.loads(text)
    options = {key: vectors[key] for key in ("exponent_bits", "mantissa_bits", "bias", "specials", "signed", "overflow")}
    fmt = lowbit.Format(**options)
    assert fmt == lowbit.format(name) and fmt.bits == vectors["bits"]
    numbers = np.array([int(word, 16) for word in vectors["numbers"]], np.uint32).view(np.float32)
    got = lowbit.decode(np.arange(2**fmt.bits, dtype=np.uint8), fmt)
    np.testing.assert_array_equal(got, numbers)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(numbers[~np.isnan(numbers)]))
    x = np.array([int(word, 16) for word in vectors["inputs"]], np.uint32).view(np.float32)
    assert len(vectors["codes"]) == 6 and x.size > 300
    for mode, codes in vectors["codes"].items():
        want = np.frombuffer(bytes.fromhex(codes), np.uint8)
        number = ~np.isnan(numbers[want])
        encoded = lowbit.encode(x, fmt, rounding=mode)
        np.testing.assert_array_equal(encoded[number], want[number])
        assert np.isnan(numbers[encoded[~number]]).all()
