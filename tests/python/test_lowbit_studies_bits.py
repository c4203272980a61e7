# Contract: bit reduction is exact, the number toward zero in the format; the closed form of the logit sharpness is the maximum over the box.
# Oracles: fractions for bit reduction; mpmath, all corners of the box and SciPy's bounded search for the sharpness.
from __future__ import annotations

import itertools
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy import optimize

from slipstick.lowbit.studies import clip_exponent, cross_entropy, logit_sharpness, mask_mantissa, reduce_bits

FLOATS = {"float16": (np.uint16, 5, 10), "float32": (np.uint32, 8, 23), "float64": (np.uint64, 11, 52)}


def samples(dtype, seed=7):
    """Values of all magnitudes: random words, all powers of two and their neighbours, and the special ones."""
    word, exponent, mantissa = FLOATS[dtype]
    random = np.random.default_rng(seed)
    words = random.integers(0, 2 ** (exponent + mantissa + 1), size=500, dtype=np.uint64)
    powers = np.arange(0, 2**exponent, max(1, 2**exponent >> 8), dtype=np.uint64) << np.uint64(mantissa)
    near = np.concatenate([powers, powers + np.uint64(1), powers[1:] - np.uint64(1)])
    both = np.concatenate([words, near, near | np.uint64(2 ** (exponent + mantissa))])
    return both.astype(word).view(dtype)


def toward_zero(value, smallest, mantissa_bits, largest, subnormals):
    """The number of the format that is nearest to value and not larger in magnitude, as a fraction."""
    size = abs(Fraction(value))
    if size >= largest:
        return largest
    exponent = max(smallest, next_exponent(size)) if size else smallest
    if size < Fraction(2) ** smallest and not subnormals:
        return Fraction(0)
    unit = Fraction(2) ** (exponent - mantissa_bits)
    return size // unit * unit


def next_exponent(size):
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    return exponent if Fraction(2) ** exponent <= size else exponent - 1


@pytest.mark.parametrize("subnormals", [False, True])
@pytest.mark.parametrize(("dtype", "exponent_bits", "mantissa_bits", "bias"), [
    ("float32", 8, 7, None), ("float32", 8, 3, None), ("float32", 5, 2, None), ("float32", 4, 3, None), ("float32", 4, 3, 11),
    ("float32", 2, 0, None), ("float32", 7, 23, 40), ("float16", 5, 2, None), ("float16", 4, 10, None), ("float64", 8, 23, None),
])  # fmt: skip
def test_reduced_number_is_the_one_toward_zero_in_the_format(dtype, exponent_bits, mantissa_bits, bias, subnormals):
    values = samples(dtype)
    bias_used = 2 ** (exponent_bits - 1) - 1 if bias is None else bias
    smallest, top = 1 - bias_used, 2**exponent_bits - 2 - bias_used
    largest = (2 - Fraction(1, 2**mantissa_bits)) * Fraction(2) ** top
    reduced = reduce_bits(values, exponent_bits, mantissa_bits, bias=bias, subnormals=subnormals)
    assert reduced.dtype == values.dtype
    assert (np.isnan(reduced) == np.isnan(values)).all()
    assert (np.signbit(reduced) == np.signbit(values)).all()
    for value, result in zip(values.tolist(), reduced.tolist()):
        if np.isinf(value):
            assert abs(Fraction(result)) == largest
        elif not np.isnan(value):
            assert abs(Fraction(result)) == toward_zero(value, smallest, mantissa_bits, largest, subnormals), value


@pytest.mark.parametrize("dtype", FLOATS)
def test_masking_sets_the_last_bits_to_zero_and_changes_no_other(dtype):
    word, exponent, mantissa = FLOATS[dtype]
    values = samples(dtype)
    for bits in (0, 1, mantissa - 1, mantissa):
        masked = mask_mantissa(values, bits)
        keep = (2 ** (exponent + mantissa + 1) - 1) ^ (2 ** (mantissa - bits) - 1)
        nan = np.isnan(values)
        assert (masked.view(word)[~nan] == (values.view(word)[~nan] & word(keep))).all()
        assert (masked.view(word)[nan] == values.view(word)[nan]).all()


def test_nan_with_a_small_payload_does_not_become_infinity():
    value = np.array([0x7F800001, 0xFF800001], np.uint32).view(np.float32)
    assert np.isnan(mask_mantissa(value, 2)).all()
    assert np.isnan(reduce_bits(value, 5, 2)).all()


def test_bits_of_the_dtype_itself_change_only_infinities_and_subnormals():
    values = samples("float32")
    same = values[np.isfinite(values) & ((np.abs(values) >= 2.0**-126) | (values == 0))]
    assert (reduce_bits(same, 8, 23).view(np.uint32) == same.view(np.uint32)).all()


def test_fewer_bits_in_steps_or_at_once_are_the_same():
    values = samples("float32")
    assert (mask_mantissa(mask_mantissa(values, 9), 4).view(np.uint32) == mask_mantissa(values, 4).view(np.uint32)).all()


def test_clipping_alone_keeps_the_mantissa():
    values = np.float32([1.2345678, -3.1415927, 239.9, 241.0])
    assert (clip_exponent(values, 4)[:3] == values[:3]).all()
    assert clip_exponent(values, 4, mantissa_bits=3)[3] == 240


def test_input_stays_and_shapes_and_layouts_are_taken():
    values = np.linspace(-9, 9, 24, dtype=np.float32).reshape(4, 6)
    before = values.copy()
    for view in (values, values.T, values[::2, ::-1], values[:0], values[1, 2], values.astype(">f4")):
        assert np.array_equal(reduce_bits(view, 5, 2), reduce_bits(np.array(view, np.float32, order="C"), 5, 2))
        assert np.shape(reduce_bits(view, 5, 2)) == np.shape(view)
    assert (values == before).all()


def test_bfloat16_of_ml_dtypes_is_taken():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16)
    wide = values.astype(np.float32)
    number = ~np.isnan(wide)
    assert (reduce_bits(values, 5, 2).astype(np.float32)[number] == reduce_bits(wide, 5, 2)[number]).all()


def exact_sharpness(row, target, epsilon):
    with mpmath.workdps(60 + int(np.ptp(row))):
        x = [mpmath.mpf(float(value)) for value in row]
        y = [(-1 if j == target else 1) * mpmath.mpf(epsilon) * (abs(value) + 1) for j, value in enumerate(x)]

        def loss(z):
            return mpmath.log(sum(mpmath.exp(value - z[target]) for value in z))

        low, high = loss(x), loss([a + b for a, b in zip(x, y)])
        return 100 * (high - low) / (1 + low), low


@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1000])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-3, 0.5])
def test_sharpness_and_loss_keep_12_digits(scale, epsilon):
    random = np.random.default_rng(3)
    logits = np.clip(random.normal(size=(4, 9)) * scale, -1000, 1000)
    targets = [0, 8, *(int(row.argmax()) for row in logits[2:])]
    for row, target in zip(logits, targets):
        sharpness, loss = exact_sharpness(row, target, epsilon)
        assert abs(logit_sharpness(row, target, epsilon=epsilon) - sharpness) <= 1e-12 * sharpness + 1e-300
        assert abs(cross_entropy(row, target) - loss) <= 1e-12 * loss + 1e-300


def test_no_corner_of_the_box_and_no_bounded_search_is_higher():
    random = np.random.default_rng(5)
    for _ in range(10):
        row, target, epsilon = random.normal(size=6) * 3, int(random.integers(6)), 0.1
        loss = float(cross_entropy(row, target))
        highest = loss + float(logit_sharpness(row, target, epsilon=epsilon)) * (1 + loss) / 100
        half = epsilon * (np.abs(row) + 1)
        corners = [float(cross_entropy(row + half * signs, target)) for signs in np.array(list(itertools.product([-1, 1], repeat=6)))]
        assert max(corners) == pytest.approx(highest, rel=1e-12)
        box = list(zip(row - half, row + half))
        search = optimize.minimize(lambda z, t=target: -float(cross_entropy(z, t)), row, bounds=box, method="L-BFGS-B")
        assert -search.fun == pytest.approx(highest, rel=1e-6)
        assert -search.fun <= highest * (1 + 1e-12)


def test_mean_is_the_sharpness_of_the_mean_loss():
    random = np.random.default_rng(6)
    logits, targets = random.normal(size=(5, 4)), np.array([0, 1, 2, 3, 0])
    losses = cross_entropy(logits, targets)
    rises = logit_sharpness(logits, targets) * (1 + losses) / 100
    assert logit_sharpness(logits, targets, reduction="mean") == pytest.approx(100 * rises.mean() / (1 + losses.mean()), rel=1e-13)


def test_sharpness_of_special_rows():
    inf = np.inf
    rows = [[np.nan, 0, 1], [inf, 0, 1], [0, inf, 1], [-inf, 0, 1], [0, -inf, 1]]
    assert np.isnan(logit_sharpness(rows[:4], [0, 0, 0, 0])).all()
    assert logit_sharpness(rows[4], 0) == pytest.approx(float(logit_sharpness([0.0, 1.0], 0)), rel=1e-13)  # a class of -inf is left out
    assert logit_sharpness([5.0], 0) == 0  # one class: the loss is 0 everywhere
    assert logit_sharpness([1.0, 2.0], 1, epsilon=0) == 0
    assert logit_sharpness(np.ones((0, 3)), np.ones(0, int)).shape == (0,)
    assert np.isfinite(logit_sharpness([-1e6, 1e6], 0, epsilon=1e-3))
    assert cross_entropy([-inf, 0.0], 0) == inf


def test_leading_dimensions_and_dtypes_are_kept_apart():
    random = np.random.default_rng(8)
    logits = random.normal(size=(2, 3, 5)).astype(np.float32)
    targets = random.integers(0, 5, (2, 3))
    whole = logit_sharpness(logits, targets)
    assert whole.shape == (2, 3)
    assert whole.dtype == np.float64
    assert whole[1, 2] == logit_sharpness(logits[1, 2], targets[1, 2])


def test_rows_do_not_depend_on_the_blocks_they_are_taken_in():
    random = np.random.default_rng(9)
    logits, targets = random.normal(size=(50, 2**14)).astype(np.float32), random.integers(0, 2**14, 50)
    whole = logit_sharpness(logits, targets)
    assert (whole == [logit_sharpness(row, target) for row, target in zip(logits, targets)]).all()
    losses = cross_entropy(logits, targets)
    assert (losses == [cross_entropy(row, target) for row, target in zip(logits, targets)]).all()


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn"])
def test_logits_in_dtypes_of_ml_dtypes_are_taken(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    logits = np.random.default_rng(10).normal(size=(4, 6)).astype(getattr(ml_dtypes, name))
    assert (logit_sharpness(logits, [0, 1, 2, 3]) == logit_sharpness(logits.astype(np.float64), [0, 1, 2, 3])).all()
