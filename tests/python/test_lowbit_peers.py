# Contract: where a peer follows the definition we give its bits, and where it does not the difference is known and stated here.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import lowbit
from slipstick.lowbit import Format

ml_dtypes = pytest.importorskip("ml_dtypes")

pytestmark = pytest.mark.kernel


def inputs():
    """All upper halves of float32, each with three lower halves: exact, just above, in the middle."""
    high = np.arange(65536, dtype=np.uint32) << 16
    return np.concatenate([high, high | 1, high | 0x8000]).view(np.float32)


@pytest.mark.parametrize(
    "name", ["e5m2", "e4m3fn", "e4m3", "e3m4", "e4m3fnuz", "e5m2fnuz", "e4m3b11fnuz", "e3m2fn", "e2m3fn", "e2m1fn", "bf16", "fp16"]
)
def test_codes_are_those_of_ml_dtypes(name):
    fmt = lowbit.format(name)
    if name in ("bf16", "fp16"):
        dtype = ml_dtypes.bfloat16 if name == "bf16" else np.float16
    else:
        dtype = getattr(ml_dtypes, f"float{fmt.bits}_{name}")
    if fmt.has_nan and not fmt.has_infinity:
        fmt = fmt.replace(overflow="nan")  # its convention
    x = inputs()
    if not fmt.has_nan:
        x = x[~np.isnan(x)]  # it gives -0 to NaN there; we refuse
    with np.errstate(invalid="ignore", over="ignore"):
        want = x.astype(dtype)
    numbers = ~np.isnan(want.astype(np.float32))
    got = lowbit.encode(x, fmt)
    np.testing.assert_array_equal(got[numbers], want.view(fmt.code_dtype)[numbers])
    assert np.isnan(lowbit.decode(got[~numbers], fmt)).all()


def test_int4_of_ml_dtypes_truncates_and_wraps_where_ours_rounds_and_saturates():
    x = np.float32([1.5, 2.5, -1.5, 6.0])
    assert x.astype(ml_dtypes.int4).astype(int).tolist() == [1, 2, -1, 6]
    assert lowbit.quantize(x, "int4", rounding="toward_zero").tolist() == [1, 2, -1, 6]
    assert lowbit.quantize(np.float32([9.0]), Format.integer(4)).tolist() == [7]


@pytest.mark.parametrize(
    "name", ["e5m2", "e4m3fn", "e4m3", "e3m4", "e4m3fnuz", "e5m2fnuz", "e4m3b11fnuz", "e3m2fn", "e2m3fn", "e2m1fn", "bf16"]
)
def test_the_profile_of_ml_dtypes_is_its_conversion(name):
    fmt = lowbit.format(name)
    dtype = ml_dtypes.bfloat16 if name == "bf16" else getattr(ml_dtypes, f"float{fmt.bits}_{name}")
    x = inputs()
    with np.errstate(invalid="ignore", over="ignore"):
        want = x.astype(dtype)
    numbers = ~np.isnan(want.astype(np.float32))
    got = lowbit.encode(x, fmt, profile="ml_dtypes")
    np.testing.assert_array_equal(got[numbers], want.view(fmt.code_dtype)[numbers])
    assert np.isnan(lowbit.decode(got[~numbers], fmt)).all()


def test_the_profile_of_cuda_saturates_everything():
    x = np.float32([np.inf, -np.inf, 1e9, np.nan, 3.0])
    assert lowbit.encode(x, "e5m2", profile="cuda-satfinite").tolist() == [0x7B, 0xFB, 0x7B, 0x7E, 0x42]
    assert lowbit.encode(x, "e2m1", profile="cuda-satfinite").tolist() == [7, 15, 7, 7, 5]


def test_unknown_profiles_are_named():
    with pytest.raises(ValueError, match="quantize: profile is 'jax'; expected one of torch, ml_dtypes, cuda-satfinite"):
        lowbit.quantize(np.float32([1]), "e4m3fn", profile="jax")
    with pytest.raises(ValueError, match="quantize: profile 'torch' knows no e3m4"):
        lowbit.quantize(np.float32([1]), "e3m4", profile="torch")
