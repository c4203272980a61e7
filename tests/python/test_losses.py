# Contract: statistics and gradients of a streamed head are those of the materialised logits. Oracle: float64 NumPy over the whole logits, which
# shares no code with the kernels; bounds come from losses.ERROR_BOUNDS. Rows made to fool the online sums match it or raise as documented.
from __future__ import annotations

import doctest
import importlib
import pathlib

import numpy as np
import pytest

from slipstick import losses

pytestmark = pytest.mark.kernel
ALL = ("target", "lse", "mean", "second_moment", "expected", "entropy", "maximum", "argmax")
SHAPES = [(1, 1, 1), (1, 5, 300), (7, 33, 130), (25, 257, 1000), (50, 16, 9001), (400, 8, 70)]
MAPS = [{}, {"scale": 0.7}, {"softcap": 2.5}, {"logit_map": "stablemax"}]


def head(rows, width, vocabulary, dtype=np.float32, seed=0, spread=2.0):
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((rows, width)).astype(dtype)
    weight = (rng.standard_normal((vocabulary, width)) * spread / np.sqrt(width)).astype(dtype)
    return hidden, weight, rng.standard_normal(vocabulary).astype(dtype), rng.integers(0, vocabulary, rows)


def logits(hidden, weight, bias=None, scale=1.0, softcap=None, logit_map=None):
    z = hidden.astype(np.float64) @ weight.astype(np.float64).T + (0 if bias is None else bias.astype(np.float64))
    z *= scale
    if softcap is not None:
        z = softcap * np.tanh(z / softcap)
    return np.sign(z) * np.log1p(np.abs(z)) if logit_map == "stablemax" else z


def softmax(z):
    """Log-sum-exp and probabilities."""
    maximum = z.max(1, keepdims=True)
    e = np.exp(z - maximum)
    return maximum[:, 0] + np.log(e.sum(1)), e / e.sum(1, keepdims=True)


def oracle(z, targets):
    lse, p = softmax(z)
    expected = (p * z).sum(1)
    return {
        "target": z[np.arange(len(z)), targets],
        "lse": lse,
        "mean": z.mean(1),
        "second_moment": (z * z).mean(1),
        "expected": expected,
        "entropy": lse - expected,
        "maximum": z.max(1),
    }


def relative(got, want):
    norm = np.linalg.norm(want)
    return np.linalg.norm(got.astype(np.float64) - want) / (norm if norm else 1.0)


def cross_entropy_gradient(z, targets, counts, smoothing=0.0, z_loss=0.0, cap=None):
    """Loss and gradient by the logits before the cap, mean over the rows that count."""
    lse, p = softmax(z)
    labels = np.where(counts, targets, 0)
    rows = np.arange(len(z))
    value = lse - (1 - smoothing) * z[rows, labels] - smoothing * z.mean(1) + z_loss * lse**2
    gradient = p * (1 + 2 * z_loss * lse)[:, None] - smoothing / z.shape[1]
    gradient[rows, labels] -= 1 - smoothing
    gradient *= counts[:, None] / counts.sum()
    return value[counts].mean(), gradient if cap is None else gradient * (1 - (z / cap) ** 2)


@pytest.mark.parametrize("options", MAPS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_match_float64(shape, dtype, options):
    hidden, weight, bias, targets = head(*shape, dtype)
    z = logits(hidden, weight, bias, **options)
    got = losses.row_statistics(hidden, weight, targets, bias=bias, want=ALL, **options)
    unit = 2.0**-52 if dtype == np.float64 else 2.0**-23
    for name, want in oracle(z, targets).items():
        found = getattr(got, name)
        assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
        error = np.abs(found - want)
        assert not (error > 60 * unit * np.maximum(1, np.abs(z).max(1) ** (2 if name == "second_moment" else 1))).any(), name
        assert not np.isnan(error).any()
    assert (z[np.arange(len(z)), got.argmax] >= z.max(1) - 60 * unit * np.abs(z).max(1)).all()
    assert (got.lse >= got.target).all()
    assert (got.lse >= got.maximum).all()


@pytest.mark.parametrize(("rows", "width", "vocabulary", "spread"), [(64, 512, 8192, 1.0), (64, 768, 8192, 4.0), (64, 64, 4000, 0.1)])
def test_lse_is_within_its_ulps(rows, width, vocabulary, spread):
    hidden, weight, _, _ = head(rows, width, vocabulary, spread=spread)
    want, _ = softmax(logits(hidden, weight))
    got = losses.row_statistics(hidden, weight, want=("lse",)).lse
    ulp = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    assert not (np.abs(got - want) > losses.ERROR_BOUNDS["lse_ulp"] * ulp).any()


def test_topk_is_sorted_and_breaks_ties_by_index():
    rng = np.random.default_rng(3)
    hidden, weight = np.eye(6, dtype=np.float32), rng.integers(-3, 4, (9000, 6)).astype(np.float32)
    z = logits(hidden, weight)
    for k in (1, 7, 256):
        got = losses.row_statistics(hidden, weight, topk=k, want=()).topk
        order = np.argsort(-z, axis=1, kind="stable")[:, :k]
        assert (got.indices == order).all()
        assert (got.values == np.take_along_axis(z, order, 1)).all()


@pytest.mark.parametrize("workspace", [None, 1 << 17], ids=["kept logits", "recomputed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 0.01}, {"softcap": 2.0, "label_smoothing": 0.2}], ids=str)
def test_gradients_of_cross_entropy_match_float64(options, dtype, workspace):
    for shape in SHAPES:
        hidden, weight, bias, targets = head(*shape, dtype)
        counts = np.arange(len(targets)) % 3 != 1
        targets[~counts] = -100
        loss, *gradients = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias, workspace=workspace, **options)
        z = logits(hidden, weight, bias, softcap=options.get("softcap"))
        want, by_z = cross_entropy_gradient(
            z, targets, counts, options.get("label_smoothing", 0), options.get("z_loss", 0), options.get("softcap")
        )
        assert abs(loss - want) <= (1e-12 if dtype == np.float64 else 2e-6) * max(1, abs(want))
        bound = losses.ERROR_BOUNDS[f"gradient_{np.dtype(dtype).name}"]
        for got, exact in zip(gradients, (by_z @ weight.astype(float), by_z.T @ hidden.astype(float), by_z.sum(0)), strict=True):
            assert relative(got, exact) <= bound
        assert not gradients[0][~counts].any()
        value = losses.linear_cross_entropy(hidden, weight, targets, bias, **options)
        assert abs(loss - value) <= 2e-6 * max(1, abs(value))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("workspace", [None, 1 << 18], ids=["kept logits", "recomputed"])
def test_every_thread_count_gives_the_same_bits(workspace, dtype):
    hidden, weight, bias, targets = head(150, 72, 5003, dtype)
    targets[::7] = -100
    results = []
    for threads in (1, 2, 3, 8):
        found = losses.row_statistics(hidden, weight, targets, bias=bias, want=ALL, topk=3, threads=threads)
        parts = [np.asarray(getattr(found, name)) for name in ALL] + list(found.topk)
        for eps in (None, 1e-3):
            parts += losses.linear_cross_entropy_and_grad(
                hidden, weight, targets, bias, label_smoothing=0.1, filter_eps=eps, workspace=workspace, threads=threads
            )
        results.append(b"".join(np.asarray(part).tobytes() for part in parts))
    assert len(set(results)) == 1


def row(values, width=4):
    """A head whose only row has these logits."""
    values = np.asarray(values, np.float32)
    weight = np.zeros((len(values), width), np.float32)
    weight[:, 0] = values
    hidden = np.zeros((1, width), np.float32)
    hidden[0, 0] = 1
    return hidden, weight


ADVERSARIAL = {
    "huge": np.where(np.arange(5000) == 4999, 1e4, -1e4),
    "falling": np.linspace(1e4, -1e4, 5000),
    "rising": np.linspace(-1e4, 1e4, 5000),
    "all equal": np.full(777, 3.25),
    "all equal and huge": np.full(5000, -1e4),
    "one class": np.array([-7.5]),
    "maximum in the last column": np.where(np.arange(4097) == 4096, 30.0, 0.0),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_rows_match_float64(name):
    hidden, weight = row(ADVERSARIAL[name])
    z = logits(hidden, weight)
    for label in {0, len(weight) // 2, len(weight) - 1}:
        got = losses.row_statistics(hidden, weight, np.array([label]), want=ALL)
        for statistic, want in oracle(z, np.array([label])).items():
            scale = np.abs(z).max() ** (2 if statistic == "second_moment" else 1)
            assert abs(getattr(got, statistic)[0] - want[0]) <= 4e-6 * scale + 1e-30, statistic
        assert got.argmax[0] == z.argmax()
        loss, by_hidden, by_weight, _ = losses.linear_cross_entropy_and_grad(hidden, weight, np.array([label]))
        want, by_z = cross_entropy_gradient(z, np.array([label]), np.array([True]))
        assert 0 <= loss
        assert abs(loss - want) <= 4e-6 * np.abs(z).max()
        assert np.abs(by_weight[:, 0] - by_z[0]).max() <= 2e-6
        assert np.abs(by_hidden - by_z @ weight.astype(float)).max() <= 4e-6 * np.abs(z).max()


def test_a_class_of_bias_minus_infinity_has_no_probability_and_no_gradient():
    hidden, weight, bias, targets = head(30, 16, 200)
    bias[::2] = -np.inf
    targets |= 1
    found = losses.row_statistics(hidden, weight, targets, bias=bias, want=("lse", "expected", "entropy"))
    lse, p = softmax(logits(hidden, weight[1::2], bias[1::2]))
    expected = (p * logits(hidden, weight[1::2], bias[1::2])).sum(1)
    assert np.abs(found.lse - lse).max() <= 1e-5
    assert np.abs(found.expected - expected).max() <= 1e-5
    for eps in (None, 1e-4):
        loss, *gradients = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias, filter_eps=eps)
        assert np.isfinite(loss)
        assert all(np.isfinite(gradient).all() for gradient in gradients)
    loss, _, by_weight, by_bias = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias)
    assert not by_weight[::2].any()
    assert not by_bias[::2].any()


def test_infinite_logits_have_their_limits_and_nan_stays_in_its_row():
    hidden, weight, _, _ = head(4, 3, 100)
    bias = np.full(100, -np.inf, np.float32)
    assert (losses.row_statistics(hidden, weight, bias=bias, want=("lse", "maximum")).lse == -np.inf).all()
    bias = np.zeros(100, np.float32)
    bias[17] = np.inf
    found = losses.row_statistics(hidden, weight, bias=bias, want=("lse", "maximum", "argmax"))
    assert (found.lse == np.inf).all()
    assert (found.argmax == 17).all()
    clean = losses.row_statistics(hidden, weight, want=("lse", "maximum", "expected"))
    hidden[2, 1] = np.nan
    found = losses.row_statistics(hidden, weight, want=("lse", "maximum", "expected"))
    for name in ("lse", "maximum", "expected"):
        got, want = getattr(found, name), getattr(clean, name)
        assert np.isnan(got[2])
        assert (np.delete(got, 2) == np.delete(want, 2)).all()


def test_empty_and_ignored_batches():
    hidden, weight, bias, targets = head(0, 8, 30)
    assert losses.row_statistics(hidden, weight, targets).lse.shape == (0,)
    loss, by_hidden, by_weight, by_bias = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias)
    assert np.isnan(loss)
    assert by_hidden.shape == (0, 8)
    assert not by_weight.any()
    assert not by_bias.any()
    hidden, weight, bias, targets = head(9, 8, 30)
    targets[:] = -100
    found = losses.row_statistics(hidden, weight, targets, want=ALL, topk=2)
    assert not found.lse.any()
    assert (found.argmax == -1).all()
    assert (found.topk.indices == -1).all()
    assert np.isnan(losses.linear_cross_entropy(hidden, weight, targets))
    assert losses.linear_cross_entropy(hidden, weight, targets, reduction="sum") == 0
    assert not losses.linear_cross_entropy(hidden, weight, targets, reduction="none").any()
    loss, *gradients = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias, reduction="sum")
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)
    no_width = losses.row_statistics(np.ones((3, 0), np.float32), np.ones((5, 0), np.float32), bias=np.arange(5.0), want="lse")
    assert np.allclose(no_width.lse, np.log(np.exp(np.arange(5.0)).sum()))


def test_layouts_give_the_same_bits():
    hidden, weight, bias, targets = head(40, 24, 300)
    want = losses.row_statistics(hidden, weight, targets, bias=bias).lse
    wide = np.zeros((600, 50), np.float32)
    wide[::2, 3:27] = weight
    for other in (wide[::2, 3:27], np.asfortranarray(weight), weight[::-1][::-1]):
        assert (losses.row_statistics(hidden, other, targets, bias=bias).lse == want).all()
    assert (losses.row_statistics(np.asfortranarray(hidden), weight, targets.astype(np.int32), bias=bias).lse == want).all()
    assert (losses.row_statistics(hidden[::-1], weight, targets[::-1], bias=bias).lse == want[::-1]).all()


def test_the_examples_of_the_room_run():
    tried = {}
    for file in pathlib.Path(losses.__file__).parent.glob("*.py"):
        if ">>>" in file.read_text("utf-8"):
            module = losses if file.stem == "__init__" else importlib.import_module(f"slipstick.losses.{file.stem}")
            failed, tried[file.stem] = doctest.testmod(module)
            assert failed == 0, file
    assert tried["__init__"] >= 8 and tried["_numpy_gradients"] >= 6 and tried["_value_and_grad"] >= 4 and tried["_spherical_head"] >= 4


def test_a_filter_drops_little_and_keeps_the_sum_of_the_gradient():
    hidden, weight, bias, targets = head(60, 32, 4000, spread=6.0)
    _, *exact = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias)
    previous = np.inf
    for eps in (1e-2, 1e-3, 1e-5):
        _, *filtered = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias, filter_eps=eps)
        error = relative(filtered[1], exact[1])
        assert error < previous
        previous = error
        assert np.abs(filtered[2].sum()) <= 1e-6  # the gradient by the logits still sums to 0
        assert np.abs(filtered[1].astype(float).sum(0) - exact[1].astype(float).sum(0)).max() <= 4000 * 2.0**-24 * np.abs(exact[1]).max()
    assert previous <= 1e-3


def test_a_filter_reports_the_probability_that_it_drops():
    hidden, weight, bias, targets = head(60, 32, 4000, spread=6.0)
    targets[::7] = -100
    _, p = softmax(logits(hidden, weight, bias))
    for eps, workspace in ((1e-3, None), (1e-4, 1 << 17)):
        options = {"filter_eps": eps, "return_dropped": True, "token_weight": np.linspace(0, 2, 60), "workspace": workspace}
        *_, dropped = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias, **options)
        want = np.where(targets == -100, 0, np.where(p < eps, p, 0).sum(1))
        want[0] = 0  # of weight 0
        assert np.abs(dropped - want).max() <= 1.5 * eps  # one class of the row may be as near to eps as rounding errors
    *_, dropped = losses.linear_cross_entropy_and_grad(hidden[None], weight, targets[None], bias, shift=3, return_dropped=True)
    assert dropped.shape == (1, 57) and not dropped.any()
    with pytest.raises(ValueError, match="return_dropped of NumPy arrays; expected linear_cross_entropy_and_grad"):
        losses.linear_cross_entropy(hidden, weight, targets, return_dropped=True)


def test_shift_weights_and_reductions():
    rng = np.random.default_rng(5)
    e, c = rng.standard_normal((3, 10, 6)).astype(np.float32), rng.standard_normal((50, 6)).astype(np.float32)
    targets = rng.integers(0, 50, (3, 10))
    targets[1, 4] = -100
    counts = targets != -100
    z = logits(e.reshape(-1, 6), c)
    each = np.where(counts, (softmax(z)[0] - z[np.arange(30), np.where(counts, targets, 0).ravel()]).reshape(3, 10), 0)
    assert np.allclose(losses.linear_cross_entropy(e, c, targets, reduction="none"), each, atol=1e-5)
    token, classes = rng.random((3, 10)), rng.random(50)
    w = np.where(counts, classes[np.where(counts, targets, 0)], 0)
    got = losses.linear_cross_entropy(e, c, targets, token_weight=token, class_weight=classes)
    assert np.isclose(got, (each * w * token).sum() / (w * token).sum(), rtol=1e-6)
    shifted = losses.linear_cross_entropy(e, c, targets, reduction="none", shift=2)
    assert shifted.shape == (3, 8)  # as cut_cross_entropy has it
    assert (shifted == losses.linear_cross_entropy(e[:, :-2], c, targets[:, 2:], reduction="none")).all()
    loss, by_e, by_c, by_bias = losses.linear_cross_entropy_and_grad(e, c, targets, shift=2, token_weight=token)
    again = losses.linear_cross_entropy_and_grad(e[:, :-2], c, targets[:, 2:], token_weight=token[:, 2:])
    assert loss == again[0]
    assert (by_e[:, :-2] == again[1]).all()
    assert not by_e[:, -2:].any()
    assert (by_c == again[2]).all()
    assert by_bias is None
    for shift in (0, 2):
        _, lse = losses.linear_cross_entropy(e, c, targets, None, -100, None, "mean", shift, True)
        counted = counts[:, shift:]
        assert lse.shape == counted.shape
        assert np.allclose(lse, np.where(counted, softmax(z)[0].reshape(3, 10)[:, : 10 - shift], 0), atol=1e-5)


def test_an_attribute_that_was_not_wanted_says_so():
    hidden, weight, _, targets = head(3, 4, 5)
    found = losses.row_statistics(hidden, weight, targets)
    with pytest.raises(AttributeError, match="entropy was not asked for; expected it in want"):
        found.entropy
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        found.nonsense
    assert repr(found) == "RowStatistics(target, lse)"


@pytest.mark.parametrize(("dtype", "far"), [(np.float32, 18.0), (np.float64, 38.0)])
def test_a_collapsed_softmax_is_seen(dtype, far):
    hidden, weight = np.eye(3, dtype=dtype), np.array([[far, 10.0, 0.0], [0.0, 0.0, far]], dtype)
    got = losses.row_statistics(hidden, weight, np.array([0, 0, 0]), want=("collapsed",)).collapsed
    assert got.tolist() == [True, False, False]


def test_bad_arguments_are_named():
    hidden, weight, bias, targets = head(3, 4, 5)
    statistics, cross_entropy = losses.row_statistics, losses.linear_cross_entropy
    for wrong in (5, -1, 2**40, -(2**62)):
        bad = targets.copy()
        bad[1] = wrong
        for function in (statistics, cross_entropy, losses.linear_cross_entropy_and_grad):
            with pytest.raises(IndexError, match=rf"targets\[1\] is {wrong}; expected 0 to 4, or -100"):
                function(hidden, weight, bad)
    for call, kind, message in [
        (lambda: statistics(hidden, weight[:, :3], targets), ValueError, r"hidden has shape \(3, 4\) and weight \(5, 3\)"),
        (lambda: statistics(hidden, weight.astype(np.float64), targets), TypeError, "weight has dtype float64; expected float32"),
        (lambda: statistics(hidden.astype(np.int32), weight, targets), TypeError, "hidden has dtype int32"),
        (lambda: statistics(hidden, weight, targets[:2]), ValueError, r"targets has shape \(2,\); expected \(3,\)"),
        (lambda: statistics(hidden, weight, targets.astype(float)), TypeError, "targets has dtype float64; expected int64"),
        (lambda: statistics(hidden, weight, targets, bias=bias[:2]), ValueError, r"bias has shape \(2,\); expected \(5,\)"),
        (lambda: statistics(hidden, weight), ValueError, "targets is None"),
        (lambda: statistics(hidden, weight, targets, want=("loss",)), ValueError, "want holds 'loss'"),
        (lambda: statistics(hidden, weight, targets, want=("topk",)), ValueError, "topk is 0"),
        (lambda: statistics(hidden, weight, targets, topk=6), ValueError, "topk is 6; expected 0 to 5"),
        (lambda: statistics(hidden, weight, targets, softcap=0.0), ValueError, "softcap is 0.0"),
        (lambda: statistics(hidden, weight, targets, softcap=1.0, logit_map="stablemax"), ValueError, "at most one of them"),
        (lambda: statistics(hidden, weight, targets, logit_map="exp"), ValueError, "logit_map is 'exp'"),
        (lambda: statistics(hidden, weight, targets, scale=np.inf), ValueError, "scale is inf"),
        (lambda: statistics(hidden, weight, targets, workspace=0), ValueError, "workspace is 0"),
        (lambda: statistics(hidden, weight, targets, threads=0), ValueError, "threads is 0"),
        (lambda: statistics(hidden, weight[:0], targets), ValueError, "weight has 0 rows"),
        (lambda: cross_entropy(hidden, weight, targets, filter_eps=1.5), ValueError, "filter_eps is 1.5"),
        (lambda: cross_entropy(hidden, weight, targets, reduction="max"), ValueError, "reduction is 'max'"),
        (lambda: cross_entropy(hidden, weight, targets, shift=3), ValueError, "shift is 3"),
        (lambda: cross_entropy(hidden, weight, targets, shift=0.5), TypeError, "shift is 0.5; expected a whole number"),
        (lambda: cross_entropy(hidden, weight, targets, ignore_index=1.5), TypeError, "ignore_index is 1.5; expected a whole number"),
        (lambda: statistics(hidden, weight, targets, ignore_index=1.5), TypeError, "ignore_index is 1.5; expected a whole number"),
        (lambda: cross_entropy(hidden, weight, targets, z_loss="a"), TypeError, "z_loss is 'a'; expected a number"),
        (lambda: cross_entropy(hidden, weight, targets, label_smoothing=1.5), ValueError, "label_smoothing is 1.5"),
        (lambda: cross_entropy(hidden, weight, targets, class_weight=bias[:2]), ValueError, r"class_weight has shape \(2,\)"),
        (lambda: cross_entropy(hidden, weight, targets, token_weight=bias), ValueError, r"token_weight has shape \(5,\)"),
        (lambda: cross_entropy(hidden, weight[:, :3], targets), ValueError, r"e has shape \(3, 4\) and c \(5, 3\)"),
        (lambda: statistics(hidden, weight, targets, softcap="a"), TypeError, "softcap is 'a'; expected a number"),
        (lambda: statistics(hidden, weight, targets, workspace="a"), TypeError, "workspace is 'a'; expected a number"),
        (lambda: statistics(hidden, weight, targets, filter_eps=[1]), TypeError, r"filter_eps is \[1\]; expected a number"),
        (lambda: statistics(hidden, weight, targets, topk="a"), TypeError, "topk is 'a'; expected a whole number"),
        (lambda: statistics(hidden, weight, targets, want=5), TypeError, "want is 5; expected names"),
        (
            lambda: statistics(hidden, weight, targets, bias=["a"] * 5),
            TypeError,
            "row_statistics: bias has dtype <U1; expected real numbers",
        ),
        (lambda: cross_entropy(hidden, weight, targets, label_smoothing="a"), TypeError, "label_smoothing is 'a'; expected a number"),
        (lambda: cross_entropy(hidden, weight, targets, label_smoothing="0.1"), TypeError, "label_smoothing is '0.1'; expected a number"),
        (lambda: statistics(hidden, weight, targets, workspace="1"), TypeError, "workspace is '1'; expected a number"),
        (lambda: cross_entropy(hidden, weight, targets, filter_eps="a"), ValueError, "linear_cross_entropy: filter_eps is 'a'"),
        (lambda: cross_entropy(hidden, weight, targets, class_weight=-np.ones(5)), ValueError, "class_weight holds -1.0; expected"),
        (lambda: cross_entropy(hidden, weight, targets, class_weight="abcde"), TypeError, "class_weight is a str; expected an array"),
    ]:
        with pytest.raises(kind, match=message):
            call()


@pytest.mark.parametrize("name", ["hidden", "weight", "targets", "bias"])
def test_masked_elements_are_refused(name):
    arrays = dict(zip(("hidden", "weight", "bias", "targets"), head(3, 4, 5), strict=True))
    arrays[name] = np.ma.masked_array(arrays[name], np.zeros(arrays[name].shape, bool))
    losses.row_statistics(**arrays)  # none is masked
    arrays[name].mask.flat[1] = True
    for function in (losses.row_statistics, losses.linear_cross_entropy, losses.linear_cross_entropy_and_grad):
        called = {"hidden": "e", "weight": "c"}.get(name, name) if function is not losses.row_statistics else name
        with pytest.raises(TypeError, match=f"{function.__name__}: {called} is a masked array"):
            function(arrays["hidden"], arrays["weight"], arrays["targets"], bias=arrays["bias"])


def differences(function, x, step=1e-6):
    """Central differences of a number by every element of x, which is changed in place."""
    out = np.empty_like(x)
    for i in np.ndindex(*x.shape):
        middle, values = x[i], []
        for sign in (1, -1):
            x[i] = middle + sign * step
            values.append(function())
        x[i] = middle
        out[i] = (values[0] - values[1]) / (2 * step)
    return out


STATISTICS = ("target", "lse", "mean", "second_moment", "expected", "entropy", "maximum")


@pytest.mark.parametrize("options", [{}, {"softcap": 2.0, "scale": 0.7}, {"logit_map": "stablemax"}], ids=str)
def test_gradients_of_statistics_match_differences(options):
    hidden, weight, bias, targets = head(5, 4, 70)
    hidden, weight, bias = hidden.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64)
    targets[2] = -100
    factors = dict(zip(STATISTICS, np.random.default_rng(1).standard_normal((7, 5)), strict=True))

    def loss():
        rows = losses.row_statistics(hidden, weight, targets, bias=bias, want=STATISTICS, **options)
        return sum((factors[name] * getattr(rows, name))[targets >= 0].sum() for name in STATISTICS)

    rows, *found = losses.row_statistics_and_grad(hidden, weight, targets, bias=bias, want=STATISTICS, upstream=factors, **options)
    assert np.array_equal(rows.entropy, losses.row_statistics(hidden, weight, targets, bias=bias, want="entropy", **options).entropy)
    for x, got in zip((hidden, weight, bias), found, strict=True):
        assert np.abs(got - differences(loss, x)).max() <= 1e-6 * np.abs(got).max() + 1e-7
    assert not found[0][2].any()


def test_gradients_of_statistics_are_those_of_cross_entropy():
    hidden, weight, bias, targets = head(40, 24, 999)

    def mean(rows):
        assert isinstance(rows, losses.RowStatistics)
        return {"lse": np.full(40, 1 / 40), "target": -1 / 40}

    rows, *found = losses.row_statistics_and_grad(hidden, weight, targets, bias=bias, upstream=mean)
    loss, *want = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias)
    assert abs((rows.lse - rows.target).mean() - loss) <= 1e-6 * loss
    for x, y in zip(found, want, strict=True):
        assert x.dtype == y.dtype
        assert relative(x, y.astype(float)) <= losses.ERROR_BOUNDS["gradient_float32"]


def test_bad_upstream_is_named():
    hidden, weight, _, targets = head(3, 4, 5)
    for upstream, kind, message in [
        ({"mean": 1.0}, ValueError, "upstream holds 'mean'; expected some of 'target', 'lse'"),
        ({"lse": np.ones(2)}, ValueError, r"upstream\['lse'\] has shape \(2,\); expected \(3,\) or a number"),
        ({"lse": "a"}, TypeError, r"upstream\['lse'\] is a str"),
        (lambda rows: rows.lse, TypeError, "upstream gives a ndarray; expected a mapping"),
    ]:
        with pytest.raises(kind, match=f"row_statistics_and_grad: {message}"):
            losses.row_statistics_and_grad(hidden, weight, targets, upstream=upstream)
    with pytest.raises(ValueError, match="want holds 'topk'"):
        losses.row_statistics_and_grad(hidden, weight, targets, want=("topk",), upstream={})


def test_bfloat16_arrays_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    hidden, weight, bias, targets = head(30, 40, 500)
    hidden, weight = hidden.astype(ml_dtypes.bfloat16), weight.astype(ml_dtypes.bfloat16)
    loss, *gradients = losses.linear_cross_entropy_and_grad(hidden, weight, targets, bias)
    want, by_z = cross_entropy_gradient(logits(hidden, weight, bias), targets, np.ones(30, bool))
    assert abs(loss - want) <= 2e-6 * want
    assert relative(gradients[0], by_z @ weight.astype(float)) <= losses.ERROR_BOUNDS["gradient_bfloat16"]
    assert relative(gradients[1], by_z.T @ hidden.astype(float)) <= losses.ERROR_BOUNDS["gradient_bfloat16"]
