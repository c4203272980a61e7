# Contract: two_head_statistics equal their definitions over dense float64 logits within ERROR_BOUNDS, on every level, the same bits for any
# number of threads; rows made to fool running sums have their limits. Oracle: log-softmaxes and sums in float64 NumPy, which share no code
# with the kernels.
from __future__ import annotations

import math

import numpy as np
import pytest

import slipstick
from slipstick import losses

pytestmark = pytest.mark.kernel
ALL = losses.TwoHeadStatistics._fields
COMBINED = ("combined_target", "combined_lse")
BINARY = ("binary_kl", "binary_kl_norm")


@pytest.fixture(params=slipstick.config()["isa_levels"])
def isa(request):
    slipstick.set_isa(request.param)
    assert slipstick.isa() == request.param
    yield request.param
    slipstick.set_isa(None)


def log_sum(x):
    top = x.max(1, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(1, keepdims=True)))[:, 0]


@np.errstate(over="ignore")
def definition(z, w, targets, mixture, coefficient, likely=True):
    """likely: where the second head's logits count in the combined ones."""
    log_p, log_q = (x - log_sum(x)[:, None] for x in (z, w))
    p, q, log_m = np.exp(log_p), np.exp(log_q), np.logaddexp(log_q + math.log(mixture), log_p + math.log1p(-mixture))
    positive, combined = 1 / (1 + np.exp(-w)), z + coefficient * np.where(likely, w, 0)

    def softplus(x):
        return np.logaddexp(0, x)

    return {
        "forward_kl": (q * (log_q - log_p)).sum(1),
        "reverse_kl": (p * (log_p - log_q)).sum(1),
        "lse": log_sum(z),
        "second_lse": log_sum(w),
        "jensen_shannon": (mixture * q * (log_q - log_m) + (1 - mixture) * p * (log_p - log_m)).sum(1),
        "binary_kl": (positive * (softplus(-z) - softplus(-w)) + (1 - positive) * (softplus(z) - softplus(w))).sum(1),
        "binary_kl_norm": ((softplus(z - w) + softplus(w - z)) / 2 - math.log(2)).sum(1),
        "combined_target": combined[np.arange(len(z)), targets],
        "combined_lse": log_sum(combined),
    }


def assert_within_bounds(found, wanted, largest, classes, dtype, rows=slice(None)):
    bound = losses.ERROR_BOUNDS[f"two_heads_{np.dtype(dtype).name}"] * (1 + largest)
    for name, want in wanted.items():
        got = getattr(found, name)
        assert got.dtype == dtype
        error = np.abs(got[rows].astype(float) - want[rows])
        rounding = np.abs(want[rows]) * np.finfo(dtype).eps
        assert (error <= bound * (classes if name in BINARY else 1) + rounding).all(), (name, error.max())


def random_heads(rows, classes, dtype, widths=(7, 12), deviation=2.0, seed=0):
    generator = np.random.default_rng(seed)
    arrays = []
    for width in widths:
        shapes = (rows, width), (classes, width), (classes,)
        hidden, weight, bias = (generator.standard_normal(shape) for shape in shapes)
        arrays += [hidden.astype(dtype), (weight * deviation / width**0.5).astype(dtype), bias.astype(dtype)]
    return arrays, generator.integers(0, classes, rows)


def logits_of(arrays, softcap=None, scale=1.0):
    both = [scale * (h.astype(float) @ w.astype(float).T + b.astype(float)) for h, w, b in (arrays[:3], arrays[3:])]
    return both if softcap is None else [softcap * np.tanh(x / softcap) for x in both]


def statistics(arrays, targets=None, want=ALL, **options):
    hidden, weight, bias, second_hidden, second_weight, second_bias = arrays
    return losses.two_head_statistics(
        hidden, weight, second_hidden, second_weight, targets, want=want, bias=bias, second_bias=second_bias, **options
    )


@pytest.mark.parametrize(("rows", "classes"), [(50, 4501), (1, 1), (3, 2), (49, 63), (97, 65), (13, 8200)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_equal_their_definitions(isa, rows, classes, dtype):
    arrays, targets = random_heads(rows, classes, dtype)
    for options in ({}, {"softcap": 3.0, "scale": 0.7}):
        found = statistics(arrays, targets, mixture=0.3, coefficient=-0.7, **options)
        z, w = logits_of(arrays, **options)
        largest = max(np.abs(z).max(), np.abs(w).max())
        assert_within_bounds(found, definition(z, w, targets, 0.3, -0.7), largest, classes, dtype)


def test_the_filter_keeps_the_classes_that_reach_the_threshold_or_the_rank(isa):
    arrays, targets = random_heads(37, 900, np.float32, deviation=4.0)
    z, w = logits_of(arrays)
    for threshold, share in ((0.1, 0.01), (0.9, 0.2), (1e-9, 0.0)):
        least = np.minimum(z.max(1) + math.log(threshold), np.sort(z, 1)[:, -max(1, int(share * 900))])
        found = statistics(arrays, targets, COMBINED, coefficient=1.5, threshold=threshold, kept_share=share, workspace=100_000)
        wanted = definition(z, w, targets, 0.5, 1.5, z >= least[:, None] - 1e-5)
        assert_within_bounds(found, {name: wanted[name] for name in COMBINED}, 20, 900, np.float32)


def test_every_thread_count_and_any_other_wish_give_the_same_bits(isa):
    arrays, targets = random_heads(150, 4200, np.float32, (3, 2))
    targets[::7] = -100
    one = statistics(arrays, targets, threads=1, threshold=0.5)
    for threads in (2, 3, 8):
        other = statistics(arrays, targets, threads=threads, threshold=0.5)
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ALL)
    for name in ALL:
        alone = statistics(arrays, targets, name, threads=2, threshold=0.5)
        assert np.array_equal(getattr(alone, name), getattr(one, name))
        assert (getattr(alone, name)[::7] == 0).all()
        assert sum(x is not None for x in alone) == 1


def test_equal_heads_have_no_divergence_and_near_ones_little(isa):
    (hidden, weight, bias, *_), _ = random_heads(40, 3001, np.float32, deviation=4.0)
    names = ("forward_kl", "reverse_kl", "jensen_shannon", *BINARY)
    equal = statistics([hidden, weight, bias] * 2, want=names)
    assert all((getattr(equal, name) == 0).all() for name in names)
    near = statistics([hidden, weight, bias, hidden * np.float32(1 + 2**-13), weight, bias], want=names)
    z, w = logits_of([hidden, weight, bias, hidden * np.float32(1 + 2**-13), weight, bias])
    wanted = definition(z, w, np.zeros(40, int), 0.5, 1.0)
    for name in names:
        assert np.abs(getattr(near, name) - wanted[name]).max() <= 1e-6 * (20 if name in BINARY else 1)


def one_hot_heads(z, w, dtype=np.float32):
    """Heads whose logits are those given: hidden is the identity over rows."""
    z, w = (np.asarray(x, dtype) for x in (z, w))
    return [np.eye(len(z), dtype=dtype), z.T.copy(), None, np.eye(len(w), dtype=dtype), w.T.copy(), None]


def test_adversarial_rows_match_the_oracle(isa):
    generator = np.random.default_rng(3)
    classes, big = 131, 1e4
    z, w = generator.standard_normal((2, 8, classes))
    z[0], w[0] = 5.0, -3.0  # all equal
    z[1, 7], w[1, 7] = big, big  # the same winner
    z[2, 7], w[2, 9] = big, big  # another one
    z[3], w[3] = -big, big
    z[4], w[4] = big * generator.standard_normal((2, classes))
    z[5] = np.linspace(-big, big, classes)  # each column is a new maximum
    w[6] = np.linspace(big, -big, classes)
    z[7, -1] = 80.0  # probabilities down to where they vanish
    arrays, targets = one_hot_heads(z, w), np.arange(8)
    z, w = arrays[1].T.astype(float), arrays[4].T.astype(float)
    wanted = definition(z, w, targets, 0.3, -1.0)
    found = statistics(arrays, targets, mixture=0.3)
    for row in range(8):
        largest = max(np.abs(z[row]).max(), np.abs(w[row]).max())
        assert_within_bounds(found, wanted, largest, classes, np.float32, slice(row, row + 1))


def test_masked_classes_count_for_nothing_and_one_sided_masks_have_their_limits(isa):
    arrays, _ = random_heads(20, 150, np.float32)
    masked = np.arange(150) % 3 == 1
    both = [x.copy() for x in arrays]
    both[2][masked] = both[5][masked] = -np.inf
    names = ALL[:5]
    found, kept = statistics(both, want=names), logits_of(arrays)
    wanted = definition(*(x[:, ~masked] for x in kept), np.zeros(20, int), 0.5, 1.0)
    assert_within_bounds(found, {name: wanted[name] for name in names}, 10, 150, np.float32)
    teacher = [*arrays[:5], both[5]]
    found = statistics(teacher, want=names)
    assert np.isfinite(found.forward_kl).all() and np.isfinite(found.jensen_shannon).all()
    assert (found.reverse_kl == np.inf).all()
    z, w = logits_of(arrays)
    w = np.where(masked, -1e3, w)
    wanted = definition(z, w, np.zeros(20, int), 0.5, 1.0)
    assert_within_bounds(found, {name: wanted[name] for name in ("forward_kl", "jensen_shannon")}, 10, 150, np.float32)
    assert (statistics([*both[:3], *arrays[3:]], want="forward_kl").forward_kl == np.inf).all()


def test_nan_stays_in_its_row(isa):
    arrays, targets = random_heads(60, 100, np.float32)
    clean = statistics(arrays, targets, threshold=0.5)
    for at, spoilt in ((0, 17), (3, 40)):
        broken = [x.copy() for x in arrays]
        broken[at][spoilt, 2] = np.nan
        found = statistics(broken, targets, threshold=0.5)
        others = np.arange(60) != spoilt
        for name in ALL:
            if name not in ("lse", "second_lse", *COMBINED):
                assert np.isnan(getattr(found, name)[spoilt]), name
            assert np.array_equal(getattr(found, name)[others], getattr(clean, name)[others])


def test_no_rows_and_only_ignored_rows():
    arrays, _ = random_heads(0, 9, np.float32)
    for found in statistics(arrays, np.zeros(0, np.int64), threshold=0.5):
        assert found.shape == (0,)
    arrays, targets = random_heads(5, 9, np.float32)
    for found in statistics(arrays, np.full_like(targets, -100), threshold=0.5):
        assert (found == 0).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"want": "tvd"}, ValueError, "want holds 'tvd'; expected some of 'forward_kl', "),
        ({"mixture": 1.0}, ValueError, "mixture is 1.0; expected a number between 0 and 1"),
        ({"coefficient": math.inf}, ValueError, "coefficient is inf; expected a finite number"),
        ({"threshold": 1.0}, ValueError, "threshold is 1.0; expected a number between 0 and 1"),
        (
            {"want": "combined_target", "targets": None},
            ValueError,
            "targets is None; expected (rows,) int64, as 'combined_target' is wanted",
        ),
        ({"targets": np.full(4, 9)}, IndexError, "targets[0] is 9; expected 0 to 8, or -100"),
        ({"softcap": -1.0}, ValueError, "softcap is -1.0; expected a positive finite number"),
        ({"workspace": 0}, ValueError, "workspace is 0; expected a positive number of bytes"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    arrays, targets = random_heads(4, 9, np.float32)
    with pytest.raises(error) as caught:
        statistics(arrays, **{"targets": targets, **change})
    assert str(caught.value).startswith(f"two_head_statistics: {message}")


def test_heads_that_do_not_fit_are_named():
    (hidden, weight, _, other_hidden, other_weight, _), _ = random_heads(4, 9, np.float32)
    with pytest.raises(ValueError, match="the second head has 3 rows and 9 classes; expected 4 and 9, as the first"):
        losses.two_head_statistics(hidden, weight, other_hidden[1:], other_weight)
    with pytest.raises(ValueError, match=r"second_hidden has shape \(4, 12\) and second_weight \(9, 7\); expected"):
        losses.two_head_statistics(hidden, weight, other_hidden, weight)
    with pytest.raises(ValueError, match="one head alone is float64; expected both or none"):
        losses.two_head_statistics(hidden, weight, other_hidden.astype(float), other_weight.astype(float))


def test_gradients_match_differences():
    rng = np.random.default_rng(4)
    tensors = [rng.standard_normal(shape) for shape in ((5, 4), (66, 4), (66,), (5, 3), (66, 3), (66,))]
    hidden, weight, bias, second_hidden, second_weight, second_bias = tensors
    targets = np.array([3, -100, 65, 0, 7])
    factors = dict(zip(ALL, rng.standard_normal((len(ALL), 5)), strict=True))
    heads, options = (hidden, weight, second_hidden, second_weight, targets), {"bias": bias, "second_bias": second_bias, "want": ALL}

    def loss():
        found = losses.two_head_statistics(*heads, **options)
        return sum((factors[name] * getattr(found, name))[targets >= 0].sum() for name in ALL)

    found, first, second = losses.two_head_statistics_and_grad(*heads, **options, upstream=factors)
    for name, values in losses.two_head_statistics(*heads, **options)._asdict().items():
        assert np.array_equal(getattr(found, name), values)
    for x, got in zip(tensors, (*first, *second), strict=True):
        want = np.empty_like(x)
        for i in np.ndindex(*x.shape):
            middle, values = x[i], []
            for sign in (1, -1):
                x[i] = middle + sign * 1e-6
                values.append(loss())
            x[i] = middle
            want[i] = (values[0] - values[1]) / 2e-6
        assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max() + 1e-7
    _, first, second = losses.two_head_statistics_and_grad(*heads, **options, upstream={})
    assert not any(x.any() for x in (*first, *second))
