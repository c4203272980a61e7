# Contract: matmul is its definition, step by step; statistics count what quantize did. Oracles: fma in exact fractions rounded once to float32, then
# quantize, which test_lowbit_exact.py proves; NumPy in float64 for sums.
from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import slipstick
from slipstick import UnsupportedError, lowbit

pytestmark = pytest.mark.kernel


def fma(a, b, c):
    """a * b + c rounded once to float32: float64 holds the product, and a sum that float64 rounds is made odd first."""
    product = a.astype(np.float64) * b.astype(np.float64)
    total = product + c.astype(np.float64)
    exact = [[Fraction(p) + Fraction(float(q)) for p, q in zip(*rows)] for rows in zip(product.tolist(), c.tolist())]
    words = total.view(np.int64)
    for i, j in np.ndindex(*total.shape):
        error = exact[i][j] - Fraction(total[i, j])
        if error and not words[i, j] & 1:
            words[i, j] += 1 if (error > 0) == (total[i, j] > 0) else -1
    return total.astype(np.float32)


def product(a, b, fmt, every, mode):
    s = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        s = fma(np.broadcast_to(a[:, k : k + 1], s.shape), np.broadcast_to(b[k], s.shape), s)
        if (every and (k + 1) % every == 0) or k + 1 == a.shape[1]:
            s = lowbit.quantize(s, fmt, rounding=mode)
    return s


CASES = [
    ("fp16", 1, "nearest_even"), ("fp16", 1, "toward_zero"), ("bf16", 1, "nearest_even"), ("e4m3fn", 1, "nearest_even"), ("fp16", 5, "nearest_even"),
    ("e5m2", 0, "nearest_even"), ("bf16", 3, "up"), ("fixed24.12", 1, "nearest_away"), ("e5m7", 1, "to_odd"), ("e6m9", 1, "down"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "every", "mode"), CASES)
@pytest.mark.parametrize(("inputs", "wild"), [(None, True), (None, False), ("e4m3fn", True), ("e4m3fn", False)])
def test_products_are_their_definition(name, every, mode, inputs, wild):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 21)).astype(np.float32), rng.standard_normal((21, 37)).astype(np.float32)
    a[0, 3], a[5], a[6] = 2.0**-30, (1000 if wild else 2) * a[5], a[6] * -(2.0**-22)
    options = {"accumulate": name, "round_every": every or "end", "rounding": mode}
    got = lowbit.matmul(a, b, inputs=inputs, **options)
    if inputs:
        a, b = lowbit.quantize(a, inputs), lowbit.quantize(b, inputs)
    want = product(a, b, name, every, mode) + np.float32(0)
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def test_infinity_and_nan_run_through():
    a, b = np.ones((2, 20), np.float32), np.ones((20, 3), np.float32)
    a[0, 4], b[3, 1], a[1] = np.inf, np.nan, 30000
    got = lowbit.matmul(a, b, accumulate="fp16")
    assert got[0, 0] == np.inf and np.isnan(got[:, 1]).all() and got[1, 2] == np.inf
    assert lowbit.matmul(a[1:], b[:, :1], accumulate=lowbit.format("fp16").replace(overflow="saturate"))[0, 0] == 65504


@pytest.mark.parametrize("name", ["bf16", "tf32"])
@pytest.mark.parametrize("exponent", [50, 55, 60, 63])
def test_sums_near_the_end_of_float32_are_finite(name, exponent):
    a = (np.random.default_rng(3).integers(-16, 17, (5, 9)) * 2.0 ** (exponent - 6)).astype(np.float32)
    a[0, 0] = 2.0**exponent
    b = np.ascontiguousarray(a[:, :5].T)
    got = lowbit.matmul(a[:, :5], b, accumulate=name)
    np.testing.assert_array_equal(got, product(a[:, :5], b, name, 1, "nearest_even") + np.float32(0))
    assert np.isfinite(got).all()


def test_without_a_format_it_is_a_float32_product_and_nothing_depends_on_threads_or_levels():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((30, 100)).astype(np.float32), rng.standard_normal((100, 70)).astype(np.float32)
    got = lowbit.matmul(a, b, accumulate=None)
    np.testing.assert_allclose(got, a.astype(np.float64) @ b, atol=1e-4)
    before = slipstick.isa()
    want = lowbit.matmul(a, b, accumulate="fp16", threads=1)
    try:
        for level in slipstick.config()["isa_levels"]:
            slipstick.set_isa(level)
            np.testing.assert_array_equal(lowbit.matmul(a, b, accumulate="fp16", threads=3), want)
            np.testing.assert_array_equal(lowbit.matmul(a, b, accumulate=None), got)
    finally:
        slipstick.set_isa(before)
    assert lowbit.matmul(a[:0], b).shape == (0, 70) and (lowbit.matmul(a[:, :0], b[:0]) == 0).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: lowbit.matmul(x, x[:2]), ValueError, "matmul: a has 3 columns and b 2 rows"),
        (lambda x: lowbit.matmul(x, x.astype(float)), TypeError, "matmul: b is float64 of 2 dimensions; expected float32 of 2"),
        (lambda x: lowbit.matmul(x, x, round_every=0), ValueError, "matmul: round_every is 0"),
        (lambda x: lowbit.matmul(x, x, rounding="stochastic"), UnsupportedError, "matmul: rounding is 'stochastic'"),
        (lambda x: lowbit.matmul(x, x, accumulate="nf4"), UnsupportedError, "matmul: accumulate is a code book"),
        (lambda x: lowbit.matmul(x, x, accumulate="mxfp4"), TypeError, "matmul: accumulate is the scaled format"),
    ],
)
def test_bad_products_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones((3, 3), np.float32))


# ---- statistics -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e2m1", "bf16", "int8", "nf4"])
@pytest.mark.parametrize("count", [0, 1, 15, 17, 1000, 200_001])
def test_statistics_are_those_of_quantize(name, count):
    rng = np.random.default_rng(2)
    x = (rng.standard_normal(count) * 2.0 ** rng.integers(-20, 12, count)).astype(np.float32)
    x[: count // 100 * 3] = np.repeat(np.float32([0, np.inf, np.nan]), count // 100)
    fmt = lowbit.format(name)
    q = lowbit.quantize(x, fmt)
    out = np.empty_like(x)
    got = lowbit.statistics(x, fmt, out=out)
    np.testing.assert_array_equal(out, q)
    finite = np.isfinite(x) & np.isfinite(q)
    beyond = (x > fmt.max) | (x < fmt.min)
    wide, error = x[finite].astype(np.float64), np.abs(q[finite].astype(np.float64) - x[finite])
    assert (got.count, got.nan, got.infinite, got.zero) == (count, np.isnan(x).sum(), np.isinf(x).sum(), (x == 0).sum())
    assert got.saturated == beyond.sum() and got.zeroed == ((x != 0) & (q == 0)).sum()
    if fmt.kind != "codebook":
        assert got.subnormal == ((np.abs(q) < fmt.smallest_normal) & (q != 0)).sum()
        inside = finite & ~beyond
        assert got.max_ulp_error <= 0.5 and (inside.sum() < 100 or got.max_ulp_error > 0.3)
    assert got.signal == pytest.approx((wide**2).sum(), rel=1e-12) and got.noise == pytest.approx((error**2).sum(), rel=1e-12)
    assert got.max_error == pytest.approx(error.max(initial=0), rel=2.0**-22)
    np.testing.assert_array_equal(got.exponents, np.bincount((x.view(np.uint32) & 0x7FFFFFFF) >> 23, minlength=256))
    if count > 100:
        assert got.sqnr_db == pytest.approx(10 * np.log10(got.signal / got.noise))


def test_statistics_are_equal_for_threads_and_levels_and_float64_counts():
    x = np.random.default_rng(3).standard_normal(200_000)
    before = slipstick.isa()
    results = []
    try:
        for level in slipstick.config()["isa_levels"]:
            slipstick.set_isa(level)
            results += [lowbit.statistics(x, "e4m3fn", threads=threads) for threads in (1, 3)]
    finally:
        slipstick.set_isa(before)
    assert {(r.signal, r.noise, r.max_error, r.max_ulp_error) for r in results} == {
        (results[0].signal, results[0].noise, results[0].max_error, results[0].max_ulp_error)
    }
    assert 30 < results[0].sqnr_db < 33


def test_flushed_subnormals_are_counted_as_zeroed():
    fmt = lowbit.Format(4, 3, subnormals="flush")
    x = np.float32([2.0**-7, 2.0**-6, 2.0**-12])
    got = lowbit.statistics(x, fmt)
    assert got.zeroed == 2 and got.subnormal == 0 and lowbit.statistics(x, "e4m3").subnormal == 1


@pytest.mark.parametrize("isa", slipstick.config()["isa_levels"])
@pytest.mark.parametrize("name", ["fp16", "bf16", "e5m2", "e4m3fn", "e6m9"])
def test_a_product_with_one_is_a_rounding(name, isa):
    # Every midpoint of the format and its neighbours, subnormal ones too, as far as no accumulator can overflow.
    fmt = lowbit.format(name)
    values = lowbit.decode(np.arange(2 ** (fmt.bits - 1), dtype=fmt.code_dtype), fmt, dtype="float64")
    values = values[values < min(fmt.max / 4, 2.0**100)]
    middle = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    x = np.concatenate([values.astype(np.float32), middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))])
    a = np.concatenate([x, -x])[:, None]
    before = slipstick.isa()
    try:
        slipstick.set_isa(isa)
        for every in (1, 5):
            got = lowbit.matmul(a, np.ones((1, 1), np.float32), accumulate=fmt, round_every=every)
            np.testing.assert_array_equal(got.view(np.uint32), (lowbit.quantize(a, fmt) + np.float32(0)).view(np.uint32))
    finally:
        slipstick.set_isa(before)
