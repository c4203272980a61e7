# Contract: SphericalHead's weight, loss and gradient for hidden are those of plain gradient descent on the dense weight, to 1e-10 after 2000
# steps in float64, whatever the batch, repeated labels and steps that make the factor singular; its cost has no term in the number of classes;
# bad arguments are named and change nothing. Oracle: the dense step in float64, with the losses' derivatives by complex steps of the formulas.
from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from slipstick.losses import SphericalHead

LOSSES = {
    "z_score": {"alpha": 0.1, "beta": 10.0},
    "spherical_softmax": {"epsilon": 0.05},
    "taylor_softmax": {},
    "squared_error": {},
}
RATES = {"z_score": 0.05, "spherical_softmax": 0.01, "taylor_softmax": 0.05, "squared_error": 0.002}


def loss_of_logits(loss, parameters, logits, labels):
    """Each row's loss from its paper's definition; analytic, so that complex logits are welcome."""
    one_hot = np.eye(logits.shape[1])[labels]
    o = (logits * one_hot).sum(1)
    if loss == "z_score":
        mean = logits.mean(1)
        deviation = np.sqrt(((logits - mean[:, None]) ** 2).mean(1))
        return np.log(1 + np.exp(parameters["alpha"] * (parameters["beta"] - (o - mean) / deviation))) / parameters["alpha"]
    if loss == "spherical_softmax":
        epsilon = parameters["epsilon"]
        return -np.log((o**2 + epsilon) / (logits**2 + epsilon).sum(1))
    if loss == "taylor_softmax":
        return -np.log((1 + o + o**2 / 2) / (1 + logits + logits**2 / 2).sum(1))
    return ((logits - one_hot) ** 2).sum(1)


def gradient_of_logits(loss, parameters, logits, labels):
    """By complex steps: exact to rounding, and nothing of the derivatives under test is in it."""
    out = np.empty(logits.shape)
    for j in range(logits.shape[1]):
        moved = logits.astype(complex)
        moved[:, j] += 1e-30j
        out[:, j] = loss_of_logits(loss, parameters, moved, labels).imag / 1e-30
    return out


def dense_derivatives(loss, parameters, logits, labels):
    """d loss / d logits of a batch, closed over whole rows, for the long runs; checked against gradient_of_logits below."""
    rows = np.arange(len(labels))
    o = logits[rows, labels][:, None]
    one_hot = np.zeros_like(logits)
    one_hot[rows, labels] = 1
    if loss == "z_score":
        alpha, beta = parameters["alpha"], parameters["beta"]
        deviation = logits.std(1, keepdims=True)
        zeta = (logits - logits.mean(1, keepdims=True)) / deviation
        own = zeta[rows, labels][:, None]
        slope = -1 / (1 + np.exp(-alpha * (beta - own)))
        return slope * (one_hot - (1 + own * zeta) / logits.shape[1]) / deviation
    if loss == "spherical_softmax":
        epsilon = parameters["epsilon"]
        return 2 * logits / (logits**2 + epsilon).sum(1, keepdims=True) - one_hot * 2 * o / (o**2 + epsilon)
    if loss == "taylor_softmax":
        return (1 + logits) / (1 + logits + logits**2 / 2).sum(1, keepdims=True) - one_hot * (1 + o) / (1 + o + o**2 / 2)
    return 2 * (logits - one_hot)


def dense_step(loss, parameters, weight, hidden, labels, rate, reduction="mean"):
    logits = hidden @ weight.T
    values = loss_of_logits(loss, parameters, logits, labels)
    gradient = dense_derivatives(loss, parameters, logits, labels) / (len(labels) if reduction == "mean" else 1)
    return getattr(np, reduction)(values), gradient @ weight, weight - rate * gradient.T @ hidden


@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_of_the_formulas(loss):
    from slipstick.losses import _spherical_formulas

    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(6, 15)), random.integers(0, 15, 6)
    formula = _spherical_formulas.FORMULAS[loss](**LOSSES[loss])
    found = formula(logits[np.arange(6), labels], logits.sum(1), (logits**2).sum(1), 15)
    by_logits = found.of_sum[:, None] + 2 * found.of_squares[:, None] * logits
    by_logits[np.arange(6), labels] += found.of_label
    exact = gradient_of_logits(loss, LOSSES[loss], logits, labels)
    np.testing.assert_allclose(by_logits, exact, rtol=0, atol=1e-14)
    np.testing.assert_allclose(dense_derivatives(loss, LOSSES[loss], logits, labels), exact, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.value, loss_of_logits(loss, LOSSES[loss], logits, labels), rtol=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("batch", "reduction"), [(1, "mean"), (5, "sum"), (40, "mean")])
def test_two_thousand_steps_are_those_of_dense_gradient_descent(loss, batch, reduction):
    random = np.random.default_rng(batch)
    classes, width, steps = 150, 12, 2000 if (loss, batch) == ("z_score", 1) else 200
    weight = random.normal(size=(classes, width)) / 4
    head = SphericalHead(weight, loss=loss, **LOSSES[loss])
    dense, rate = weight.copy(), RATES[loss] / (batch if reduction == "sum" else 1)
    for _ in range(steps):
        hidden, labels = random.normal(size=(batch, width)), random.integers(0, 60, batch)  # of 60 classes, so that labels repeat
        value, gradient = head.step(hidden, labels, learning_rate=rate, reduction=reduction)
        expected, expected_gradient, dense = dense_step(loss, LOSSES[loss], dense, hidden, labels, rate, reduction)
        assert abs(value - expected) <= 1e-9 * max(1, abs(expected))
        assert np.abs(gradient - expected_gradient).max() <= 1e-9 * max(1, np.abs(expected_gradient).max())
    assert np.abs(head.materialise() - dense).max() <= 1e-10 * np.abs(dense).max()
    assert np.abs(dense - weight).max() > 0.01 * np.abs(weight).max()  # the weight has moved


def test_steps_that_scale_a_direction_away_or_turn_it_round_stay_exact():
    """squared_error has l_q = 1: a step of 1/(2 |h|^2) makes I - a h h^T singular, a larger one turns the direction round."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(50, 6))
    head, dense = SphericalHead(weight, loss="squared_error"), weight.copy()
    for t in range(60):
        hidden, labels = random.normal(size=(1, 6)), random.integers(0, 50, 1)
        rate = (0.5, 0.49999, 0.5000001, 0.7, 0.9)[t % 5] / float((hidden**2).sum())
        head.step(hidden, labels, learning_rate=rate)
        _, _, dense = dense_step("squared_error", {}, dense, hidden, labels, rate)
        assert np.abs(head.materialise() - dense).max() <= 1e-10 * np.abs(dense).max()


def test_a_factor_that_drifts_is_taken_in_and_the_weight_stays():
    random = np.random.default_rng(0)
    weight = random.normal(size=(200, 8))
    head, dense = SphericalHead(weight, loss="squared_error"), weight.copy()
    direction = random.normal(size=8)
    for _ in range(400):  # always the same direction: its singular value falls by a tenth a step
        hidden = direction[None] / np.linalg.norm(direction) * (1 + 0.01 * random.normal())
        head.step(hidden, np.array([3]), learning_rate=0.05)
        _, _, dense = dense_step("squared_error", {}, dense, hidden, np.array([3]), 0.05)
    assert np.linalg.cond(head._mix) < 1e6
    assert np.abs(head.materialise() - dense).max() <= 1e-10 * np.abs(dense).max()


def test_stabilizing_changes_no_weight_and_refreshes_what_is_known_of_all_classes():
    random = np.random.default_rng(0)
    head = SphericalHead(random.normal(size=(9000, 8)), alpha=0.5, stabilize_every=7)
    for _ in range(20):
        head.step(random.normal(size=(4, 8)), random.integers(0, 9000, 4), learning_rate=0.3)
    weight = head.materialise()
    np.testing.assert_allclose(head._times_products(np.eye(8)), weight.T @ weight, rtol=0, atol=1e-10 * np.abs(weight.T @ weight).max())
    np.testing.assert_allclose(head._sum, weight.sum(0), rtol=0, atol=1e-10 * np.abs(weight).sum(0).max())
    head.stabilize()
    np.testing.assert_allclose(head.materialise(), weight, rtol=0, atol=1e-13 * np.abs(weight).max())
    assert np.array_equal(head._mix, np.eye(8))


def test_batches_larger_than_the_width_and_of_one_label():
    random = np.random.default_rng(0)
    weight = random.normal(size=(30, 4))
    for labels in (np.full(50, 7), random.integers(0, 30, 50)):
        head, dense = SphericalHead(weight, alpha=0.2, beta=3.0), weight
        for _ in range(30):
            hidden = random.normal(size=(50, 4))
            head.step(hidden, labels, learning_rate=0.4)
            _, _, dense = dense_step("z_score", {"alpha": 0.2, "beta": 3.0}, dense, hidden, labels, 0.4)
        assert np.abs(head.materialise() - dense).max() <= 1e-10 * np.abs(dense).max()


def test_ignored_rows_and_leading_dimensions():
    random = np.random.default_rng(0)
    weight, hidden = random.normal(size=(30, 4)), random.normal(size=(2, 3, 4))
    labels = np.array([[1, -100, 4], [-100, 1, 29]])
    kept = labels != -100
    head, other = SphericalHead(weight), SphericalHead(weight)
    value, gradient = head.step(hidden, labels, learning_rate=0.5)
    expected, of_kept = other.step(hidden[kept], labels[kept], learning_rate=0.5)
    assert value == expected and gradient.shape == hidden.shape
    assert np.array_equal(gradient[kept], of_kept) and not gradient[~kept].any()
    assert np.array_equal(head.materialise(), other.materialise())
    before = head.materialise()
    value, gradient = head.step(hidden, np.full((2, 3), -100), learning_rate=0.5)
    assert np.isnan(value) and not gradient.any() and np.array_equal(head.materialise(), before)
    assert head.step(hidden[:0], labels[:0], learning_rate=0.5, reduction="sum")[0] == 0


def test_loss_and_logits_are_those_of_the_weight():
    random = np.random.default_rng(0)
    head = SphericalHead(random.normal(size=(30, 4)), loss="taylor_softmax")
    hidden, labels = random.normal(size=(5, 4)), random.integers(0, 30, 5)
    for _ in range(10):
        head.step(hidden, labels, learning_rate=0.3)
    logits = hidden @ head.materialise().T
    np.testing.assert_allclose(head.logits(hidden), logits, rtol=0, atol=1e-13)
    expected = loss_of_logits("taylor_softmax", {}, logits, labels).mean()
    assert head.loss(hidden, labels) == pytest.approx(expected, rel=1e-13)
    assert head.loss(hidden, labels, reduction="sum") == pytest.approx(5 * expected, rel=1e-13)


def test_single_precision_weights_are_stored_as_such_and_stay_close():
    random = np.random.default_rng(0)
    weight = random.normal(size=(300, 16)).astype(np.float32)
    head, dense = SphericalHead(weight, **LOSSES["z_score"]), weight.astype(np.float64)
    for _ in range(500):
        hidden, labels = random.normal(size=(8, 16)).astype(np.float32), random.integers(0, 300, 8)
        _, gradient = head.step(hidden, labels, learning_rate=0.05)
        _, _, dense = dense_step("z_score", LOSSES["z_score"], dense, hidden.astype(np.float64), labels, 0.05)
    assert gradient.dtype == head.materialise().dtype == np.float32
    assert np.abs(head.materialise() - dense).max() <= 1e-5 * np.abs(dense).max()


def test_equal_logits_have_no_z_score_and_move_nothing():
    head = SphericalHead(np.ones((7, 3)))
    value, gradient = head.step(np.ones((2, 3)), np.array([1, 2]), learning_rate=1.0)
    assert value == pytest.approx(np.log(2)) and not gradient.any()
    np.testing.assert_array_equal(head.materialise(), np.ones((7, 3)))


class CountedRows(np.ndarray):
    """An array that counts the elements of itself that leave or enter it by indexing, and refuses arithmetic on the whole."""

    touched = 0

    def __getitem__(self, key):
        out = np.asarray(super().__getitem__(key))
        CountedRows.touched += out.size
        return out

    def __setitem__(self, key, value):
        CountedRows.touched += np.size(value)
        super().__setitem__(key, value)

    def __array_ufunc__(self, *arguments, **options):
        raise AssertionError("the whole of V was computed with")


@pytest.mark.parametrize("classes", [100, 10_000])
def test_a_step_touches_the_rows_of_its_labels_alone(classes):
    random = np.random.default_rng(0)
    head = SphericalHead(random.normal(size=(classes, 8)))
    head._classes_rows = head._classes_rows.view(CountedRows)
    CountedRows.touched = 0
    for _ in range(10):
        head.step(random.normal(size=(4, 8)), random.integers(0, classes, 4), learning_rate=0.1)
    assert 0 < CountedRows.touched <= 10 * 3 * 4 * 8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learning_rate": 0.0}, ValueError, "learning_rate is 0.0; expected a positive number"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate is nan; expected a positive number"),
        ({"reduction": "none"}, ValueError, "reduction is 'none'; expected one of 'mean', 'sum'"),
        ({"hidden": np.ones((2, 3))}, ValueError, "hidden has shape (2, 3); expected (..., 4)"),
        ({"targets": np.array([1, 2, 3])}, ValueError, "targets has shape (3,); expected (2,)"),
        ({"targets": np.array([1.0, 2.0])}, TypeError, "targets is of float64; expected int64"),
        ({"targets": np.array([1, 30])}, IndexError, "targets holds 30; expected 0 to 29, or -100 to ignore a row"),
        ({"targets": np.array([-1, 3])}, IndexError, "targets holds -1; expected 0 to 29, or -100 to ignore a row"),
        ({"hidden": np.full((2, 4), np.nan)}, ValueError, "the loss of hidden or its gradient is NaN or infinite; expected finite numbers"),
        ({"hidden": np.full((2, 4), 1e300)}, ValueError, "the loss of hidden or its gradient is NaN or infinite; expected finite numbers"),
    ],
)
def test_bad_steps_are_named_and_change_nothing(arguments, error, message):
    head = SphericalHead(np.random.default_rng(0).normal(size=(30, 4)), loss="squared_error")
    good = {"hidden": np.ones((2, 4)), "targets": np.array([1, 2]), "learning_rate": 0.1}
    head.step(**good)
    before = head.materialise(), head._times_products(np.eye(4)), head._sum.copy()
    with pytest.raises(error) as caught:
        head.step(**{**good, **arguments})
    assert str(caught.value) == f"SphericalHead.step: {message}"
    for old, new in zip(before, (head.materialise(), head._times_products(np.eye(4)), head._sum)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(("size", "rate"), [(1e100, 0.1), (1.0, 1e300), (1e20, 1e290)])
@pytest.mark.parametrize("loss", LOSSES)
def test_steps_that_overflow_are_refused_and_change_nothing(loss, size, rate):
    random = np.random.default_rng(0)
    head = SphericalHead(random.normal(size=(30, 4)), loss=loss)
    before = head.materialise(), head._times_products(np.eye(4))
    hidden = size * random.normal(size=(2, 4))
    refused = ""
    try:
        head.step(hidden, np.array([1, 2]), learning_rate=rate)
    except ValueError as error:
        refused = str(error)
    after = head.materialise(), head._times_products(np.eye(4))
    if refused:
        assert "overflows" in refused or "NaN or infinite" in refused
        for old, new in zip(before, after):
            np.testing.assert_array_equal(old, new)
    else:  # the gradient was small enough
        assert np.isfinite(after[0]).all() and np.isfinite(after[1]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weight": np.ones(3)}, ValueError, "weight has shape (3,); expected (V, D), both at least 1"),
        ({"weight": np.ones((0, 3))}, ValueError, "weight has shape (0, 3); expected (V, D), both at least 1"),
        ({"weight": np.full((2, 2), np.inf)}, ValueError, "weight holds NaN or infinity; expected finite numbers"),
        ({"weight": [[1.0]]}, TypeError, "expected NumPy arrays or torch tensors; got a list"),
        ({"loss": "softmax"}, ValueError, "loss is 'softmax'; expected one of 'z_score', "),
        ({"alpha": -1.0}, ValueError, "alpha is -1.0; expected a positive number"),
        ({"beta": np.nan}, ValueError, "beta is nan; expected a finite number"),
        ({"stabilize_every": 0}, ValueError, "stabilize_every is 0; expected a positive number of steps"),
    ],
)
def test_bad_heads_are_named(arguments, error, message):
    with pytest.raises(error) as caught:
        SphericalHead(**{"weight": np.ones((5, 2)), **arguments})
    assert str(caught.value).startswith(f"SphericalHead: {message}")


def test_a_parameter_of_another_loss_is_refused():
    with pytest.raises(TypeError, match="epsilon"):
        SphericalHead(np.ones((5, 2)), loss="z_score", epsilon=0.1)


@pytest.mark.torch
def test_torch_tensors_come_back_as_torch_tensors_and_carry_the_gradient_on():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    below = torch.nn.Linear(3, 4).double()
    head = SphericalHead(weight, loss="taylor_softmax")
    dense = weight.clone().requires_grad_()
    data, labels = torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.tensor([1, 2, 3, 1, 29, -100])
    value, gradient = head.step(below(data), labels, learning_rate=0.2)
    below(data).backward(gradient)
    ours = below.weight.grad.clone()
    below.weight.grad = None
    logits = below(data) @ dense.T
    kept = labels != -100
    taylor = 1 + logits + logits**2 / 2
    loss = -torch.log(taylor[kept, labels[kept]] / taylor[kept].sum(1)).mean()
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-13)
    assert torch.allclose(ours, below.weight.grad, rtol=1e-12, atol=1e-15)
    assert torch.allclose(head.materialise(), dense.detach() - 0.2 * dense.grad, rtol=1e-12, atol=1e-15)
    assert head.logits(data.new_ones(2, 4)).shape == (2, 30)
    half = SphericalHead(weight.bfloat16())
    _, gradient = half.step(torch.ones(2, 4, dtype=torch.bfloat16), labels[:2], learning_rate=0.1)
    assert gradient.dtype == torch.bfloat16 and half.materialise().dtype == torch.float32


def test_the_benchmark_proves_equal_work_and_prints_its_row():
    script = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "spherical.py"
    sizes = ["--classes", "300", "--width", "8", "--batches", "5", "--runs", "1", "--markdown"]
    result = subprocess.run([sys.executable, script, *sizes], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    head, _, *rows = result.stdout.split("\n\n")[0].splitlines()
    assert head.startswith("| rows a step | SphericalHead, ms | NumPy float64, ms |")
    assert [row.split(" | ")[0] for row in rows] == ["| 5"]
    assert "300 classes, width 8;" in result.stdout and "of the dense ones" in result.stdout
