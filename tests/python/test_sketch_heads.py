# Contract: heads on streamed features are those of scikit-learn on the array, whatever the chunks; states of naive Bayes merge. Oracles: GaussianNB and
# LogisticRegression, and the kernel that random features stand for.
from __future__ import annotations

import numpy as np
import pytest

from slipstick import sketch

pytest.importorskip("sklearn", minversion="1.6")

from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

DATA = {"iris": datasets.load_iris, "breast cancer": datasets.load_breast_cancer, "digits": datasets.load_digits}


def loaded(name):
    X, y = DATA[name](return_X_y=True)  # noqa: N806
    order = np.random.default_rng(0).permutation(len(y))
    return X[order], y[order]


def chunks_of(X, y, weights=None, rows=100):  # noqa: N803
    parts = [part for part in (X, y, weights) if part is not None]
    return [tuple(part[start : start + rows] for part in parts) for start in range(0, len(y), rows)]


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("weighted", [False, True])
def test_naive_bayes_is_that_of_scikit_learn(name, weighted):
    X, y = loaded(name)  # noqa: N806
    weights = np.random.default_rng(1).integers(0, 4, len(y)).astype(float) if weighted else None
    peer = GaussianNB(var_smoothing=1e-6).fit(X, y, weights)
    head = sketch.NaiveBayesHead(int(y.max()) + 1, shared_variance=False, smoothing=1e-6)
    for chunk in chunks_of(X, y, weights):
        head.partial_fit(*chunk)
    # GaussianNB takes its smoothing from the variance without weights.
    scale = np.var(X, axis=0).max() / np.max(np.average((X - np.average(X, axis=0, weights=weights)) ** 2, axis=0, weights=weights))
    head.smoothing *= scale
    np.testing.assert_allclose(head.predict_log_probabilities(X), peer.predict_log_proba(X), rtol=1e-6, atol=1e-6)
    assert (head.predict(X) == peer.predict(X)).all()


def test_naive_bayes_of_shared_variance_is_linear_and_merges():
    X, y = loaded("iris")  # noqa: N806
    X = X + 1e6  # squares of such numbers cancel  # noqa: N806
    names = np.array(["setosa", "versicolor", "virginica"])
    parts = [sketch.NaiveBayesHead(names) for _ in range(3)]
    for i, chunk in enumerate(chunks_of(X, names[y], rows=20)):
        parts[i % 3].partial_fit(*chunk)
    head = parts[2].merge(parts[0]).merge(parts[1]).merge(sketch.NaiveBayesHead(names))
    means = np.stack([X[y == c].mean(axis=0) for c in range(3)])
    variance = np.mean((X - means[y]) ** 2, axis=0) + 1e-9 * X.var(axis=0).max()
    want = -0.5 * ((X[:, None] - means) ** 2 / variance).sum(axis=2) + np.log(np.bincount(y) / len(y))
    got = head.scores(X)
    np.testing.assert_allclose(got - got[:, :1], want - want[:, :1], rtol=1e-6, atol=1e-6)
    assert np.mean(head.predict(X) == names[y]) > 0.9
    # Linear: a score at the middle of two rows is the mean of theirs, up to a number common to the classes.
    middle = head.scores((X[:1] + X[1:2]) / 2) - got[:2].mean(axis=0)
    np.testing.assert_allclose(middle - middle[:, :1], 0, atol=1e-5)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("weighted", [False, True])
def test_logistic_head_is_that_of_scikit_learn(name, weighted):
    X, y = loaded(name)  # noqa: N806
    X = X / np.maximum(X.std(axis=0), 1e-9)  # noqa: N806
    X, y = X[:600], y[:600]  # noqa: N806
    ridge, count = 3.0, int(y.max()) + 1
    weights = np.random.default_rng(1).random(len(y)) if weighted else None
    peer = LogisticRegression(C=(2 if count == 2 else 1) / ridge, tol=1e-9, max_iter=20_000, solver="newton-cg").fit(X, y, weights)
    head = sketch.LogisticHead(count, ridge=ridge, tolerance=1e-8).fit(chunks_of(X, y, weights))
    scores = head.scores(X)
    want = peer.decision_function(X)
    got = scores[:, 1] - scores[:, 0] if count == 2 else scores - scores.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(got, want if count == 2 else want - want.mean(axis=1, keepdims=True), rtol=1e-4, atol=1e-4)
    assert head.gradient <= 1e-8
    np.testing.assert_allclose(head.intercepts.sum(), 0, atol=1e-12)


def test_passes_do_not_grow_with_the_condition_of_the_features():
    random = np.random.default_rng(0)
    X, y = random.standard_normal((2000, 6)), random.integers(0, 3, 2000)  # noqa: N806
    y = np.where(random.random(2000) < 0.5, X[:, :3].argmax(axis=1), y)
    mixing = np.linalg.qr(random.standard_normal((6, 6)))[0] * np.geomspace(1, 1e-4, 6)
    plain = sketch.LogisticHead(3, ridge=0, tolerance=1e-7).fit([(X, y)])
    hard = sketch.LogisticHead(3, ridge=0, tolerance=1e-7).fit([(X @ mixing, y)])
    assert hard.passes < 2 * plain.passes < 60
    np.testing.assert_allclose(hard.loss, plain.loss, rtol=1e-9)


def test_random_features_stand_for_the_kernel_and_serve_heads_without_being_stored():
    X, y = loaded("digits")  # noqa: N806
    X = X / 16  # noqa: N806
    features = sketch.RandomFeatures(64, 4000, length_scale=2.0, seed=3)
    squared = ((X[:50, None] - X[:50]) ** 2).sum(axis=2)
    z = features(X[:50])
    assert np.abs(z @ z.T - np.exp(-squared / 8)).max() < 6 / np.sqrt(4000)
    few = sketch.RandomFeatures(64, 400, length_scale=2.0, seed=3)
    source = chunks_of(X[:1200], y[:1200])
    bayes = sketch.NaiveBayesHead(10, features=few)
    for chunk in source:
        bayes.partial_fit(*chunk)
    logistic = sketch.LogisticHead(10, features=few, ridge=0.1, tolerance=1e-3).fit(source)
    assert np.mean(bayes.predict(X[1200:]) == y[1200:]) > 0.85
    assert np.mean(logistic.predict(X[1200:]) == y[1200:]) > 0.95
    np.testing.assert_allclose(np.exp(logistic.predict_log_probabilities(X[:5])).sum(axis=1), 1)


def test_separable_classes_without_ridge_are_said_not_to_converge():
    X, y = np.array([[-1.0], [1.0]] * 5), np.array([0, 1] * 5)  # noqa: N806
    with pytest.warns(RuntimeWarning, match="LogisticHead: gradient is .* above the tolerance"):
        sketch.LogisticHead(2, ridge=0.0, tolerance=0.0).fit([(X, y)])


@pytest.mark.parametrize("d", [1, 2, 5])
def test_bandlimited_features_stand_for_the_transform_of_a_ball(d):
    special = pytest.importorskip("scipy.special")
    X, radius = np.random.default_rng(0).standard_normal((30, d)), 3.0  # noqa: N806
    features = sketch.RandomFeatures(d, 40_000, bandlimit=radius, seed=5)
    lengths = np.linalg.norm(features._map, axis=0)
    assert lengths.max() <= radius and abs(np.mean((lengths / radius) ** d) - 0.5) < 0.01  # uniform in the ball
    z = radius * np.linalg.norm(X[:, None] - X, axis=2) + 1e-9
    want = special.gamma(d / 2 + 1) * (2 / z) ** (d / 2) * special.jv(d / 2, z)
    np.testing.assert_allclose(features(X) @ features(X).T, want, atol=5 / np.sqrt(40_000))
    assert (sketch.RandomFeatures(d, 9, bandlimit=radius, seed=5)(X) == sketch.RandomFeatures(d, 9, bandlimit=radius, seed=5)(X)).all()


@pytest.mark.parametrize("count", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_a_number_of_classes_is_any_whole_number(count):
    assert sketch.NaiveBayesHead(count).classes.tolist() == sketch.LogisticHead(count).classes.tolist() == [0, 1, 2]


def test_bad_chunks_are_refused_by_name():
    X, y = np.ones((3, 2)), np.array([0, 1, 0])  # noqa: N806
    head = sketch.NaiveBayesHead(2).partial_fit(X, y)
    spoiled = X.copy()
    spoiled[2, 1] = np.inf
    for chunk, message in [
        ((X, np.array([0, 2, 0])), r"NaiveBayesHead: y is np.int64\(2\) at row 1; expected one of the classes"),
        ((X, y[:2]), r"NaiveBayesHead: y has shape \(2,\); expected \(3,\)"),
        ((spoiled, y), "NaiveBayesHead: X is inf at row 2, column 1; expected finite numbers"),
        ((X[:, :1], y), "NaiveBayesHead: X has 1 features; expected 2, as before"),
        ((X, y, [-1.0, 1.0, 1.0]), "NaiveBayesHead: weights is -1.0 at row 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            head.partial_fit(*chunk)
    for call, error, message in [
        (lambda: sketch.NaiveBayesHead(1), ValueError, "classes is 1; expected a number of 2 or more"),
        (lambda: sketch.NaiveBayesHead(True), TypeError, "NaiveBayesHead: classes is True; expected a whole number"),
        (lambda: sketch.LogisticHead(3.0), TypeError, "LogisticHead: classes is 3.0; expected a whole number"),
        (lambda: sketch.NaiveBayesHead(["a", "a"]), ValueError, "expected a number of 2 or more, or 2 or more different labels"),
        (lambda: sketch.NaiveBayesHead(2).scores(X), ValueError, "no rows were seen"),
        (lambda: sketch.NaiveBayesHead(2, smoothing=0).partial_fit(X, y).scores(X), ValueError, "has variance 0"),
        (lambda: head.merge(sketch.NaiveBayesHead(3)), ValueError, "merge: classes is"),
        (lambda: head.merge(3), TypeError, "merge: other is int; expected NaiveBayesHead"),
        (lambda: sketch.LogisticHead(2).scores(X), ValueError, "expected fit first"),
        (lambda: sketch.LogisticHead(2).fit(iter([(X, y)])), ValueError, "source is an iterator"),
        (lambda: sketch.LogisticHead(2).fit([X]), TypeError, "a chunk is ndarray"),
        (lambda: sketch.LogisticHead(2).fit([]), ValueError, "source has no rows"),
        (lambda: sketch.RandomFeatures(2, 3, length_scale=0), ValueError, "length_scale is 0.0; expected a number above 0"),
        (lambda: sketch.RandomFeatures(2, 3, bandlimit=-1), ValueError, "bandlimit is -1.0; expected a finite number of 0 or more"),
        (lambda: sketch.RandomFeatures(3, 3)(X), ValueError, "RandomFeatures: X has 2 columns; expected 3"),
    ]:
        with pytest.raises(error, match=message):
            call()
