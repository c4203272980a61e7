# Contract: what is no array where one is needed, or no number, is refused by an error that names the function and the argument, in every loss
# of the room, of NumPy arrays and of tensors; and NumPy says nothing, whatever the numbers. The arguments are those of the signatures, so that a new
# loss or argument is tested where it has a case in losses_family_cases.py.
from __future__ import annotations

import inspect
import warnings

import losses_family_cases as family
import numpy as np
import pytest

from slipstick import losses

NAMES = sorted(family.CASES)
STREAMING = ("softcap", "scale", "filter_eps", "workspace", "threads")
OF_ARRAYS = ("bias", "teacher_bias", "assistant_bias", "base_bias", "running", "token_weight", "class_weight")
FLAGS = ("average", "renormalize", "preserve_norm", "return_lse", "return_dropped")
NO_ARRAY = {
    "a string": "abc",
    "an object": object(),
    "a mapping": {},
    "objects": np.array([None, 1.0], object),
    "strings": np.array(["a", "b"]),
    "dates": np.array(["2026-11-27"], "datetime64[D]"),
    "complex numbers": np.ones(3, complex),
    "ragged lists": [[1.0, 2.0], [3.0]],
    "too many dimensions": np.ones((2, 1, 2, 1, 2, 1)),
}
NO_NUMBER = {
    "a string": "abc",
    "a number in a string": "2",
    "an object": object(),
    "a list": [1, 2],
    "an array": np.ones(2),
    "an array of one": np.ones(1),
    "a complex number": 1j,
    "a mapping": {},
}


def arguments_of(name, tensors):
    """Good arguments by name, and the names that can be given."""
    arrays = family.inputs()
    if tensors:
        torch = pytest.importorskip("torch")
        arrays = {each: torch.from_numpy(x) for each, x in arrays.items()}
    given, options, _, by_name = family.CASES[name][0]
    parameters = list(inspect.signature(getattr(losses, name)).parameters)
    good = {**dict(zip(parameters, (arrays[each] for each in given))), **options}
    good |= {argument: arrays[array] for argument, array in by_name.items()}
    good |= {"ignore_index": family.IGNORED} if "targets" in given else {}
    if "streaming" in parameters:
        parameters.remove("streaming")
        parameters += STREAMING
    return good, parameters


def refused(name, argument, bad, good, others=()):
    """Asserts that an error names the function and the argument, or one of others."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((TypeError, ValueError)) as caught:
            getattr(losses, name)(**{**good, argument: bad})
    text = str(caught.value)
    assert text.startswith(f"{name}: "), text
    assert any(each in text for each in (argument, *others)), text


@pytest.mark.parametrize("tensors", [False, pytest.param(True, marks=pytest.mark.torch)], ids=["arrays", "tensors"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_array_or_no_number_is_named(name, tensors):
    good, parameters = arguments_of(name, tensors)
    defaults = {each: x.default for each, x in inspect.signature(getattr(losses, name)).parameters.items()}
    is_array = {each: each in OF_ARRAYS or hasattr(good.get(each), "shape") for each in parameters}
    arrays = [each for each in parameters if is_array[each]]
    for argument in arrays:
        for kind, bad in NO_ARRAY.items():
            if kind == "too many dimensions" and len(arrays) == 1:  # any shape will do
                continue
            refused(name, argument, bad, good, arrays if hasattr(bad, "ndim") and bad.ndim == 6 else ())
        if defaults[argument] is inspect.Parameter.empty:
            others = ("the first argument",) if argument == parameters[0] else ()
            if not (argument == "targets" and name == "logit_difference_cross_entropy"):
                refused(name, argument, None, good, others)
    for argument in parameters:
        if is_array[argument] or argument == "process_group":
            continue
        for kind, bad in NO_NUMBER.items():
            if argument == "filter_eps" and kind.endswith("string"):
                continue
            refused(name, argument, bad, good)
        if argument not in (*STREAMING, "threshold") and defaults[argument] is not None:
            refused(name, argument, None, good)
        if argument not in ("seed", "step", "ignore_index", "shift", *FLAGS):
            with (
                pytest.raises((TypeError, ValueError), match=rf"^{name}: {argument}")
                if argument != "workspace"
                else warnings.catch_warnings()
            ):
                getattr(losses, name)(**{**good, argument: 10**400})


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_among_arrays_and_an_array_among_tensors_are_refused(name):
    torch = pytest.importorskip("torch")
    for tensors in (False, True):
        good, _ = arguments_of(name, tensors)
        arrays = [each for each, x in good.items() if hasattr(x, "shape")]
        for argument in arrays:
            other = good[argument].numpy() if tensors else torch.from_numpy(good[argument])
            if len(arrays) > 1:
                refused(name, argument, other, good, arrays)


@pytest.mark.parametrize("name", [name for name in NAMES if "targets" in family.CASES[name][0][0]])
def test_labels_that_are_no_class_are_named(name):
    good, _ = arguments_of(name, False)
    labels = good["targets"]
    for bad, kind in (
        (np.full_like(labels, -1), IndexError),
        (labels + 100, IndexError),
        (labels * np.nan, TypeError),
        (labels[:1], ValueError),
    ):
        with pytest.raises(kind, match=f"^{name}: .*targets"):
            getattr(losses, name)(**{**good, "targets": bad})


@pytest.mark.kernel
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_no_number_makes_numpy_speak(name, dtype):
    for factor in (30.0, 1e3, 1e4):
        for special in (None, np.nan, np.inf, -np.inf):
            arrays = family.inputs(dtype)
            for each, x in arrays.items():
                if x.dtype.kind == "f" and each != "temperatures":
                    with np.errstate(over="ignore"):
                        x *= x.dtype.type(factor)
                    if special is not None:
                        x.reshape(-1)[::5] = special
            for case in family.CASES[name]:
                for reduction in family.reductions(name):
                    family.call(name, case, reduction, arrays)


@pytest.mark.filterwarnings("error")
def test_sums_and_ratios_beyond_the_range_are_infinite():
    hidden, weight, targets = np.array([[1.0], [100.0], [2000.0]], np.float32), np.array([[0.0], [1.0]], np.float32), np.zeros(3, np.int64)
    sums = losses.comp_sum_loss(hidden, weight, targets, tau=0.0, reduction="none")
    assert sums[0] == pytest.approx(np.e, rel=1e-6) and np.isinf(sums[1:]).all()  # 1/p - 1 = e^z
    u = losses.linear_cross_entropy(hidden, weight, targets, reduction="none")
    old, gain = (-u - 100).astype(np.float32), np.array([[1.0, -1.0, 0.5]], np.float32)
    found = losses.policy_gradient_loss(hidden[None], weight, targets[None], gain, old[None], reduction="none")[0]
    assert found == pytest.approx([-1.2, np.inf, -0.6], rel=1e-6)  # clipped where that is the lower gain, and only there
