# Contract: value_and_grad gives each loss of the family the value of the call, bit for bit, and by each array the gradient that torch's
# autograd gives for tensors; by a function of the user's own, too. Oracles: torch through the same losses, and differences of values.
from __future__ import annotations

import collections
import inspect

import losses_family_cases as family
import numpy as np
import pytest

from slipstick import losses

NO_GRADIENT = {"loss_based_weights", "perpendicular_gradient"}  # a gradient is not their business
NAMES = sorted(set(family.CASES) - NO_GRADIENT)


def bound(name, case, reduction, arrays):
    """The function's arguments by name."""
    given, options, _, by_name = case
    parameters = list(inspect.signature(getattr(losses, name)).parameters)
    options = {**options, **{argument: arrays[array] for argument, array in by_name.items()}}
    options |= {} if reduction is None else {"reduction": reduction}
    options |= {"ignore_index": family.IGNORED} if "targets" in given else {}
    return {**dict(zip(parameters, (arrays[each] for each in given))), **options}


def first(result):
    return result[0] if isinstance(result, tuple) else result


def total(name):
    """The loss, summed where it has no reduction."""
    function = getattr(losses, name)
    return function if name not in family.WITHOUT_REDUCTION else lambda **arguments: function(**arguments).sum()


def cases(name):
    reductions = [None] if name in family.WITHOUT_REDUCTION else ["sum", "mean"]
    return [(case, reduction) for case in family.CASES[name] for reduction in reductions]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_autograd(name, dtype):
    torch = pytest.importorskip("torch")
    arrays = family.inputs(dtype if dtype != "bfloat16" else "float32")
    if dtype == "bfloat16":
        if "weight" not in family.CASES[name][0][0]:
            pytest.skip("NumPy has no formulas of bfloat16")
        kind = pytest.importorskip("ml_dtypes").bfloat16
        arrays = {each: x.astype(kind) if x.dtype.kind == "f" else x for each, x in arrays.items()}
    tensors = {each: torch.from_numpy(x) for each, x in family.inputs().items()}
    tensors = {each: x.to(getattr(torch, dtype)).requires_grad_() if x.is_floating_point() else x for each, x in tensors.items()}
    for case, reduction in cases(name):
        of_tensors = bound(name, case, reduction, tensors)
        for x in of_tensors.values():
            if isinstance(x, torch.Tensor):
                x.grad = None
        loss = first(total(name)(**of_tensors))
        if loss.requires_grad:
            loss.backward()
        of_arrays = bound(name, case, reduction, arrays)
        value, gradients = losses.value_and_grad(total(name), **of_arrays)
        assert np.array_equal(first(value), first(total(name)(**of_arrays)), equal_nan=True)
        floating = [each for each, x in of_tensors.items() if isinstance(x, torch.Tensor) and x.is_floating_point()]
        assert sorted(gradients) == sorted(floating)
        for each in floating:
            assert gradients[each].dtype == of_arrays[each].dtype and gradients[each].shape == of_arrays[each].shape
            wanted = of_tensors[each].grad
            wanted = np.zeros(gradients[each].shape) if wanted is None else wanted.double().numpy()
            got, finite = gradients[each].astype(np.float64), np.isfinite(wanted)
            assert np.array_equal(got[~finite], wanted[~finite], equal_nan=True)
            error, wanted = np.linalg.norm(got[finite] - wanted[finite]), wanted[finite]
            tolerance = {"float64": 1e-11, "float32": 2e-5, "float16": 5e-3, "bfloat16": 3e-2}[dtype]
            assert error <= tolerance * max(np.linalg.norm(wanted), 1e-30), (each, reduction, case[1])


WEIGHED_BY_CONSTANTS = {
    "compositional_likelihood_loss",
    "ens_loss",
    "lagged_aldr_kl_loss",
    "reweighted_cross_entropy",
}  # made of the arrays


@pytest.mark.kernel
@pytest.mark.parametrize("name", sorted(set(NAMES) - WEIGHED_BY_CONSTANTS))
def test_gradients_are_differences_of_values(name):
    random = np.random.default_rng(0)
    arrays = family.inputs()
    for case, reduction in cases(name):
        arguments = bound(name, case, reduction, arrays)
        without_gradient = ("advantages", "old_log_prob", "reference_log_prob")
        by = [each for each, x in arguments.items() if isinstance(x, np.ndarray) and x.dtype.kind == "f" and each not in without_gradient]
        _, gradients = losses.value_and_grad(total(name), **arguments, by=by)
        directions = {each: random.normal(size=arguments[each].shape) for each in by}
        step = 1e-6
        moved = [{each: arguments[each] + sign * step * directions[each] for each in by} for sign in (1, -1)]
        ahead, behind = (first(total(name)(**{**arguments, **each})) for each in moved)
        slope = sum((gradients[each] * directions[each]).sum() for each in by)
        assert slope == pytest.approx((ahead - behind) / (2 * step), rel=2e-5, abs=2e-7), (reduction, case[1])


# ---- functions of the user's own ----------------------------------------------------------------------------------------------------------


def head(dtype="float64", rows=5, classes=7, width=4):
    random = np.random.default_rng(1)
    hidden, weight, bias = (random.normal(size=shape).astype(dtype) for shape in ((rows, width), (classes, width), (classes,)))
    return hidden, weight, bias, random.integers(0, classes, rows)


def check_against_autograd(function, *arrays, by=None, tolerance=1e-12):
    """function: of the library's modules (numpy or torch) and of the arrays."""
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(x).requires_grad_() if x.dtype.kind == "f" else torch.from_numpy(x) for x in arrays]
    loss = function(torch, *tensors)
    loss.backward()
    names = [f"x{i}" for i in range(len(arrays))]
    call = {1: lambda x0: function(np, x0), 2: lambda x0, x1: function(np, x0, x1), 3: lambda x0, x1, x2: function(np, x0, x1, x2)}
    call |= {4: lambda x0, x1, x2, x3: function(np, x0, x1, x2, x3)}
    value, gradients = losses.value_and_grad(call[len(arrays)], *arrays, by=by)
    assert value == pytest.approx(loss.item(), rel=tolerance)
    for name, x in zip(names, tensors):
        if name in gradients:
            wanted = x.grad.numpy()
            assert np.linalg.norm(gradients[name] - wanted) <= tolerance * np.linalg.norm(wanted), name


@pytest.mark.torch
def test_every_statistic_has_its_gradient():
    hidden, weight, bias, targets = head()
    want = ("target", "lse", "mean", "second_moment", "expected", "entropy", "maximum", "topk")

    def loss(xp, hidden, weight, bias, targets):
        rows = losses.row_statistics(hidden, weight, targets, bias=bias, want=want, topk=3, softcap=3.0, scale=1.5, ignore_index=2)
        total = (rows.topk.values * (1 + rows.topk.values)).sum()
        for i, name in enumerate(want[:-1]):
            total = total + (i + 1) * (xp.tanh(getattr(rows, name)) ** 2).sum()
        return total

    check_against_autograd(loss, hidden, weight, bias, targets)
    for name in want[:-1]:

        def one(xp, hidden, weight, bias, targets, name=name):
            return (
                getattr(losses.row_statistics(hidden, weight, targets, bias=bias, want=(name,), logit_map="stablemax"), name) ** 2
            ).sum()

        check_against_autograd(one, hidden, weight, bias, targets)


@pytest.mark.torch
def test_statistics_of_two_heads_have_their_gradients():
    hidden, weight, bias, targets = head()
    want = (
        "forward_kl",
        "reverse_kl",
        "lse",
        "second_lse",
        "jensen_shannon",
        "binary_kl",
        "binary_kl_norm",
        "combined_target",
        "combined_lse",
    )

    def loss(xp, hidden, weight, bias, targets):
        heads = losses.two_head_statistics(
            hidden, weight, 0.5 * hidden, weight * weight, targets, want=want, bias=bias, threshold=0.3, kept_share=0.3, ignore_index=3
        )
        return sum((i + 1) * (getattr(heads, name) ** 2).sum() for i, name in enumerate(want))

    check_against_autograd(loss, hidden, weight, bias, targets, tolerance=1e-11)


@pytest.mark.torch
@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "sum"},
        {"label_smoothing": 0.2, "z_loss": 0.1, "softcap": 4.0},
        {"return_lse": True},
        {"shift": 1, "reduction": "sum"},
        {"class_weight": True, "label_smoothing": 0.3},
        {"token_weight": True, "shift": 1},
    ],
)
def test_cross_entropy_has_its_gradients_with_every_option(options):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(2)
    arrays = {"e": random.normal(size=(2, 5, 4)), "c": random.normal(size=(7, 4)), "bias": random.normal(size=7)}
    arrays["targets"] = random.integers(0, 7, (2, 5))
    arrays["targets"][0, 2] = -100
    options = dict(options)
    for name, size in (("class_weight", 7), ("token_weight", (2, 5))):
        if options.pop(name, False):
            arrays[name] = random.uniform(0.5, 2, size=size)
    tensors = {name: torch.from_numpy(x) for name, x in arrays.items()}
    by = [name for name in arrays if name not in ("targets", "class_weight")]
    for name in by:
        tensors[name].requires_grad_()
    found = losses.linear_cross_entropy(**tensors, **options)
    first(found).backward()
    value, gradients = losses.value_and_grad(losses.linear_cross_entropy, **arrays, **options, by=by)
    plain = losses.linear_cross_entropy(**arrays, **options)
    assert (
        all(np.array_equal(x, y) for x, y in zip(np.atleast_1d(value[-1]), np.atleast_1d(plain[-1])))
        if options.get("return_lse")
        else value == plain
    )
    for name in by:
        assert np.linalg.norm(gradients[name] - tensors[name].grad.numpy()) <= 1e-11 * np.linalg.norm(gradients[name]), name


@pytest.mark.torch
def test_losses_of_whole_answers_and_formulas_of_numpy_have_gradients():
    hidden, weight, _, targets = head(rows=8)

    def preference(xp, hidden, weight, targets):
        log_prob = losses.sequence_log_prob(hidden.reshape(4, 2, 4), weight, targets.reshape(4, 2), average=True)
        return losses.orpo_loss(log_prob[:2], log_prob[2:], beta=0.5) + losses.kto_loss(
            log_prob, log_prob * 0.5, xp.abs(targets[:4]) > 2, 0.1
        )

    check_against_autograd(preference, hidden, weight, targets)

    def formula(xp, x, y):
        z = xp.concatenate([x, -y[:1]], 0).T @ xp.stack([x[0], y[1], x[2], y[-1], x[0], y[2]], 0)
        parts = xp.exp(-z), xp.expm1(z), xp.log(1 + z**2), xp.log1p(xp.abs(z)), xp.sqrt(3 + xp.square(z)), xp.tanh(z) / (2 - xp.tanh(z))
        stacks = (
            xp.reshape(x, (5, 2, 2)) @ y[:2, :2],
            xp.reshape(x, (5, 2, 2)) @ y[0, :2],
            y[:5, :2] @ xp.reshape(x, (5, 2, 2)),
            x[0, :2] @ y[:2],
        )
        ends = xp.minimum(z, 0.3 * z.T), xp.maximum(z, z.T - 1), xp.logaddexp(z, z.T), 2.0 ** xp.tanh(z), xp.clip(z, -0.5, 0.5)
        products = (
            xp.einsum("ij,jk,lk->il", z, z, x[:4]),
            xp.einsum("ij -> j", z),
            xp.einsum("ij,k->ik", z, x[0]),
            xp.einsum("...ij,jk->...ik", xp.stack([x, y], 0), z),
        )
        extremes = xp.amax(z, 0), xp.amin(z, (0, 1)), z.max() * z, xp.clip(z, min=-0.2), xp.clip(z, max=0.2)
        total = sum((part * part).sum() for part in (*products, *extremes))
        total = total + sum(part.mean() for part in parts) + sum((part * part).sum(0).sum() for part in (*ends, *stacks))
        folded = xp.where(z > 0, z, 0.1) + xp.flip(z, (1,)) * xp.einsum("ij,jk->ik", z, z)
        return (
            total + folded.cumsum(1)[:, 2:].sum((0, 1)) + (x[np.array([0, 0, -1])] * z[0, 0]).sum() + (x[x > 0] ** 3).sum() + (x[0] @ y[1])
        )

    check_against_autograd(
        formula, np.random.default_rng(3).normal(size=(5, 4)), np.random.default_rng(4).normal(size=(5, 4)), tolerance=1e-11
    )


def test_gradients_of_chosen_arguments_alone():
    hidden, weight, _, targets = head()
    _, everything = losses.value_and_grad(losses.distillation_loss, hidden, weight, hidden[:, ::-1], weight[::-1], targets)
    assert list(everything) == ["hidden", "weight", "teacher_hidden", "teacher_weight"]
    for by in ("hidden", ("weight", "hidden"), ("teacher_weight",)):
        _, some = losses.value_and_grad(losses.distillation_loss, hidden, weight, hidden[:, ::-1], weight[::-1], targets, by=by)
        assert list(some) == ([by] if isinstance(by, str) else list(by))
        assert all(np.array_equal(some[each], everything[each]) for each in some)
    _, none = losses.value_and_grad(losses.uniform_kl, hidden, weight, by=())
    assert none == {}
    value, gradients = losses.value_and_grad(lambda hidden, weight: np.float32(3), hidden, weight)
    assert value == 3 and not gradients["hidden"].any() and gradients["weight"].shape == weight.shape
    loss, gradients = losses.value_and_grad(losses.focal_loss, hidden[:0], weight, targets[:0], reduction="sum")
    assert loss == 0 and gradients["hidden"].shape == (0, 4) and not gradients["weight"].any()
    _, gradients = losses.value_and_grad(losses.focal_loss, hidden.tolist(), weight, targets, by=("hidden",))
    assert gradients["hidden"].shape == hidden.shape


def _adds_in_place(x):
    total = x.sum()
    total += x[0, 0]
    return total


def test_what_has_no_gradient_is_named():
    hidden, weight, _, targets = head()
    run, focal = losses.value_and_grad, losses.focal_loss
    for call, kind, message in (
        (lambda: run(3, hidden), TypeError, "value_and_grad: loss is a int; expected a function"),
        (
            lambda: run(focal, hidden, weight, targets, by=("bias",)),
            ValueError,
            "value_and_grad: by holds 'bias'; expected some of 'hidden', ",
        ),
        (
            lambda: run(focal, hidden, weight, targets, by=("targets",)),
            TypeError,
            "value_and_grad: targets has dtype int64; expected one of",
        ),
        (lambda: run(focal, hidden, weight, targets, by=3), TypeError, "value_and_grad: by is 3; expected names of arguments"),
        (
            lambda: run(focal, hidden, weight, targets, reduction="none"),
            ValueError,
            r"value_and_grad: the loss has shape \(5,\); expected one",
        ),
        (lambda: run(focal, hidden, weight, targets, gamma=-1.0), ValueError, "focal_loss: gamma is -1.0"),
        (lambda: run(focal, hidden, weight), TypeError, "missing a required argument: 'targets'"),
        (lambda: run(lambda x: np.sin(x).sum(), hidden), TypeError, "slipstick.losses: numpy.sin has no derivative; expected some of"),
        (lambda: run(lambda x: np.sort(x).sum(), hidden), TypeError, "slipstick.losses: numpy.sort has no derivative; expected some of"),
        (lambda: run(lambda x: np.add.reduce(x), hidden), TypeError, "slipstick.losses: numpy.add.reduce has no derivative"),
        (lambda: run(lambda x: np.modf(x)[0].sum(), hidden), TypeError, "slipstick.losses: numpy.modf has no derivative"),
        (
            lambda: run(lambda x: np.einsum("ii->", x[:4]), hidden),
            TypeError,
            "slipstick.losses: numpy.einsum of 'ii->' has no derivative here",
        ),
        (
            lambda: run(lambda x: np.einsum("ij,jk", x, x), hidden),
            TypeError,
            "slipstick.losses: numpy.einsum of 'ij,jk' has no derivative here",
        ),
        (
            lambda: run(lambda x: np.einsum("i...,i...->i...", x, x[:, None]).sum(), hidden),
            TypeError,
            "slipstick.losses: numpy.einsum of 'i...,i...->i...' has no derivative here",
        ),
        (
            lambda: run(lambda x: np.einsum(x, [0, 1], [0]).sum(), hidden),
            TypeError,
            "slipstick.losses: numpy.einsum has no derivative here but by",
        ),
        (
            lambda: run(lambda x: np.clip(x, np.zeros(4), 1).sum(), hidden),
            TypeError,
            "slipstick.losses: numpy.clip has no derivative here where",
        ),
        (
            lambda: run(lambda x: np.clip(x, x.min(), 1).sum(), hidden),
            TypeError,
            "slipstick.losses: numpy.clip has no derivative here where",
        ),
        (lambda: run(lambda x: x.sum().item(), hidden), TypeError, r"slipstick.losses: item\(\) gives a plain number"),
        (lambda: run(lambda x: float(x.sum()), hidden), TypeError, r"slipstick.losses: item\(\) gives a plain number"),
        (lambda: run(_adds_in_place, hidden), TypeError, "slipstick.losses: numpy.add would change an array in place"),
        (lambda: run(lambda x: np.asarray(x).sum(), hidden), TypeError, "slipstick.losses: an array of value_and_grad where a plain one"),
        (
            lambda: run(lambda x: losses.row_statistics_and_grad(x, weight, upstream={})[0].lse.sum(), hidden),
            TypeError,
            "row_statistics_and_grad: hidden is an array of value_and_grad; expected a plain one",
        ),
    ):
        with pytest.raises(kind, match=f"^{message}"):
            call()


@pytest.mark.torch
def test_tensors_are_refused():
    torch = pytest.importorskip("torch")
    hidden, weight, _, targets = head()
    with pytest.raises(TypeError, match=r"^value_and_grad: hidden is a torch\.Tensor; expected a NumPy array, as tensors have autograd"):
        losses.value_and_grad(losses.focal_loss, torch.from_numpy(hidden), weight, targets, by=("hidden",))


@pytest.mark.filterwarnings("error")
def test_rows_that_do_not_count_get_no_gradient_and_no_warning():
    arrays = family.inputs()
    spoilt = family.inputs()
    spoilt["hidden"][arrays["targets"] == family.IGNORED] = np.nan
    for name in NAMES:
        for case, reduction in cases(name):
            if "targets" not in case[0]:
                continue
            _, wanted = losses.value_and_grad(total(name), **bound(name, case, reduction, arrays))
            _, got = losses.value_and_grad(total(name), **bound(name, case, reduction, spoilt))
            for each in wanted:
                assert np.array_equal(got[each], wanted[each]), (name, each)
            assert not next(iter(got.values()))[arrays["targets"] == family.IGNORED].any(), name


@pytest.mark.parametrize(
    ("loss", "x", "expected"),
    [
        (lambda x: x[[0, 0, 1]].sum(), np.ones(3), [2, 1, 0]),
        (lambda x: x.reshape(2, 2)[[0, 0], [1, 1]].sum(), np.ones(4), [0, 2, 0, 0]),
        (lambda x: np.sqrt(np.maximum(x, 0)).sum(), np.array([-1.0, 4.0]), [0, 0.25]),
        (lambda x: (np.array([0.0, 2.0]) ** x).sum(), np.ones(2), [0, 2 * np.log(2)]),
        (lambda x: np.where(x > 0, x, 0 * x).sum(), np.array([-1.0, 1.0]), [0, 1]),
    ],
    ids=[
        "a list of rows",
        "lists of rows and columns",
        "an infinite slope that is not taken",
        "powers of 0",
        "a choice by the array itself",
    ],
)
def test_corners_have_the_gradients_of_torch(loss, x, expected):
    assert np.allclose(losses.value_and_grad(loss, x)[1]["x"], expected)


def test_equal_extremes_share_a_gradient_and_tuples_keep_their_kind():
    Result = collections.namedtuple("Result", ["loss", "largest"])
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    result, gradients = losses.value_and_grad(lambda x: Result(x.max(1).sum(), x.max(1, keepdims=True)), x)
    assert isinstance(result, Result) and result.loss == 5 and np.array_equal(result.largest, [[3.0], [2.0]])
    assert np.allclose(gradients["x"], [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    value, gradients = losses.value_and_grad(lambda x: x.max(), np.array([1.0, np.nan, 2.0]))
    assert np.isnan(value) and np.array_equal(gradients["x"], [0, 1, 0])


def test_gradients_are_the_callers_own():
    x, y = np.ones(3), np.ones(3)
    of_sum = losses.value_and_grad(lambda x, y: np.exp(x + y).sum(), x, y)[1]
    assert not np.shares_memory(of_sum["x"], of_sum["y"])
    plain = losses.value_and_grad(lambda x: x.sum(), x)[1]["x"]
    plain *= 2
    assert np.array_equal(plain, 2 * np.ones(3)) and np.array_equal(x, np.ones(3))
    places = np.array([0, 1])

    def changes_its_index(x):
        total = x[places].sum()
        places[:] = 2
        return total

    assert np.array_equal(losses.value_and_grad(changes_its_index, x)[1]["x"], [1, 1, 0])


def test_what_would_lose_a_gradient_is_refused():
    with pytest.raises(TypeError, match="q is differentiated already"):
        losses.value_and_grad(lambda x: losses.value_and_grad(lambda q: (q**2).sum(), x)[0], np.ones(2))
    with pytest.raises(ValueError, match="no argument of loss"):
        losses.value_and_grad(lambda *x: x[0].sum(), np.ones(2))
