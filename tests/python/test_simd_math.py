# Contract: each function of cpp/simd/math.h is, on every level and for every float, within the bound that the core states for it. Oracle: NumPy
# in double, whose error is below 2^-28 units in the last place (ulp) of a float. The C++ tests sweep all inputs; this holds what Python loads.
import numpy as np
import pytest

import slipstick

pytestmark = pytest.mark.kernel  # run once per level by .ci/kernels

simd = slipstick._core.simd
LEVELS = slipstick.config()["isa_levels"]
ORACLES = {name: getattr(np, name) for name in ("exp", "exp2", "expm1", "log", "log2", "log1p", "tanh")}


@pytest.fixture(params=["v2", "v3", "v4", "v4_bf16", "neon"])
def level(request):
    if request.param not in LEVELS:
        pytest.skip(f"this machine has no {request.param}")
    slipstick.set_isa(request.param)
    assert simd.isa() == request.param
    yield request.param
    slipstick.set_isa(None)


def apply(name, x):
    out = np.empty_like(x)
    getattr(simd, name)(x, out)
    return out


def sample(step=10007):
    """Floats of every sign, exponent and kind, NaN included, by steps through the bit patterns."""
    return np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)


def error_in_ulp(got, exact):
    """|got - exact| in ulp of exact, with overflow counted as 2^128; infinite where one of both is NaN or a zero is wrong."""
    held = np.clip(exact, -(2.0**128), 2.0**128)
    value = np.clip(got.astype(np.float64), -(2.0**128), 2.0**128)
    exponent = np.clip(np.frexp(held)[1], -125, 128)
    error = np.ldexp(np.abs(value - held), 24 - exponent)
    error = np.where(exact == 0, np.where((got == 0) & (np.signbit(got) == np.signbit(exact)), 0.0, np.inf), error)
    error = np.where(np.isinf(exact) & (got != exact), np.inf, error)
    return np.where(np.isnan(exact) | np.isnan(got), np.where(np.isnan(exact) & np.isnan(got), 0.0, np.inf), error)


def test_every_bounded_function_has_an_oracle():
    assert simd.max_ulp_float32().keys() == ORACLES.keys()
    assert simd.max_ulp_float64().keys() == {"exp", "log"}


@pytest.mark.parametrize("name", ORACLES)
def test_float_function_is_within_its_bound(level, name):
    x = sample()
    with np.errstate(all="ignore"):
        exact = ORACLES[name](x.astype(np.float64))
    error = error_in_ulp(apply(name, x), exact)
    bound = simd.max_ulp_float32()[name]
    assert not (error > bound).any(), (x[error.argmax()], error.max())
    assert not np.isnan(error).any()


@pytest.mark.parametrize("name", ["exp", "log"])
def test_double_function_is_within_its_bound_of_mpmath(level, name):
    mpmath = pytest.importorskip("mpmath")
    random = np.random.default_rng(20240607)
    near = random.uniform(0.4, 1.7, 300)
    wide = random.uniform(-745, 709, 700) if name == "exp" else np.ldexp(near[:300], random.integers(-1073, 1023, 300))
    x = np.concatenate([near, wide])
    got = apply(name, x)
    with mpmath.workprec(200):
        for a, y in zip(x, got):
            exact = getattr(mpmath, name)(mpmath.mpf(float(a)))
            ulp = mpmath.mpf(2) ** (max(int(mpmath.floor(mpmath.log(abs(exact), 2))), -1022) - 52)
            assert abs(mpmath.mpf(float(y)) - exact) / ulp <= simd.max_ulp_float64()[name], (a, y)


@pytest.mark.parametrize("name", ORACLES)
def test_every_level_gives_the_same_bits(name):
    x = sample(30011)
    results = []
    for level in LEVELS:
        slipstick.set_isa(level)
        results.append(apply(name, x))
    slipstick.set_isa(None)
    for result in results[1:]:
        assert np.array_equal(np.isnan(result), np.isnan(results[0]))
        assert np.array_equal(result.view(np.uint32)[~np.isnan(result)], results[0].view(np.uint32)[~np.isnan(result)])


def test_other_lengths_and_types_are_refused():
    x = np.ones(4, np.float32)
    with pytest.raises(ValueError, match="exp: out has length 3; expected 4, the length of x"):
        simd.exp(x, np.ones(3, np.float32))
    with pytest.raises(TypeError):
        simd.exp(x, np.ones(4, np.float64))
    with pytest.raises(TypeError):
        simd.log2(x.astype(np.float64), np.ones(4, np.float64))
