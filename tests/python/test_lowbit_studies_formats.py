# Contract: the studies and the quantizer of the room agree where they overlap, and a sweep takes formats of the room. The two share no code:
# the studies work on words in NumPy, quantize in the compiled kernels.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import lowbit
from slipstick.lowbit.studies import logit_sharpness, power_dequantize, power_quantize, reduce_bits, sweep

pytestmark = pytest.mark.kernel


def float32_of_all_kinds():
    words = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint64).astype(np.uint32)
    exponents = np.arange(256, dtype=np.uint32) << 23
    edges = np.concatenate([exponents + np.uint32(step) for step in (0, 1, 1 << 20, (1 << 23) - 1)])
    return np.concatenate([words, edges, edges | np.uint32(1 << 31)]).view(np.float32)


@pytest.mark.parametrize("subnormals", [False, True])
@pytest.mark.parametrize(
    ("exponent_bits", "mantissa_bits", "bias"), [(8, 7, None), (8, 3, None), (5, 10, None), (5, 2, None), (4, 3, 11), (2, 1, None)]
)
def test_reduced_bits_are_the_quantizer_toward_zero_with_saturation(exponent_bits, mantissa_bits, bias, subnormals):
    fmt = lowbit.Format(exponent_bits, mantissa_bits, bias=bias, subnormals="keep" if subnormals else "flush", overflow="saturate")
    values = float32_of_all_kinds()
    quantized = lowbit.quantize(values, fmt, rounding="toward_zero")
    reduced = reduce_bits(values, exponent_bits, mantissa_bits, bias=bias, subnormals=subnormals)
    number = ~np.isnan(values)
    assert np.isnan(quantized[~number]).all()
    assert (reduced[number].view(np.uint32) == quantized[number].view(np.uint32)).all()


@pytest.mark.parametrize(("bits", "exponent"), [(2, 0.5), (4, 0.55), (8, 0.3), (8, 1.0), (5, 1.4)])
def test_power_quantizer_is_the_power_format(bits, exponent):
    weights = np.random.default_rng(1).normal(size=5000)
    codes, maximum = power_quantize(weights, exponent, bits)
    values = lowbit.quantize(weights / maximum, lowbit.Format.power(bits, exponent))
    assert np.abs(power_dequantize(codes, 1.0, exponent, bits) - values).max() <= 2.0**-24  # values of the format are float32


def soft_regression(format, seed, learning_rate):
    """Softmax regression whose matrix products see quantized inputs; reports the mean loss and the sharpness of all rows."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(64, 8)).astype(np.float32)
    targets = (x @ random.normal(size=(8, 4)).astype(np.float32)).argmax(axis=1)
    weight = np.zeros((8, 4), np.float32)
    for _ in range(30):
        logits = (lowbit.quantize(x, format) @ lowbit.quantize(weight, format)).astype(np.float64)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        yield -np.log(p[np.arange(64), targets]).mean(), logit_sharpness(logits, targets, reduction="mean")
        p[np.arange(64), targets] -= 1
        weight -= np.float32(learning_rate) * (lowbit.quantize(x, format).T @ lowbit.quantize((p / 64).astype(np.float32), format))


def test_a_sweep_over_formats_of_the_room_finds_that_fewer_bits_train_worse():
    formats = [lowbit.format(name) for name in ("fp32", "e5m2", "e2m1")]
    result = sweep(soft_regression, formats, [0, 1, 2], [0.5], progress=False)
    losses = [np.mean([run.final_loss for run in result.select(format=fmt)]) for fmt in formats]
    assert losses == sorted(losses)
    assert losses[2] > 1.5 * losses[0]  # gradients below half of 0.5 are lost in e2m1
    assert all((run.sharpness > 0).all() for run in result.runs)
    assert [line.split()[0] for line in result.table().splitlines()[1:]] == ["fp32", "e5m2", "e2m1fn"]
    again = sweep(soft_regression, formats, [0, 1, 2], [0.5], progress=False)
    assert all((one.losses == other.losses).all() for one, other in zip(result.runs, again.runs))
