# Contract: every loss takes NumPy arrays for values, where torch cannot be imported, too: the numbers of its definition, in the dtype that
# tensors give, without a warning; and the numbers of tensors on the same inputs. Whoever adds a public name adds it here. Bad arguments are
# named. Oracles: the definitions in plain NumPy over dense float64 logits (losses_family_cases.py), torch through the same functions,
# differences of values for gradients.
from __future__ import annotations

import inspect
import pathlib
import subprocess
import sys

import losses_family_cases as family
import numpy as np
import pytest

from slipstick import losses

NAMES = sorted(family.CASES)
TOLERANCE = {"float64": 1e-10, "float32": 5e-6}  # of the largest value; the grid of aldr_kl_loss's definition leaves 3e-11


def test_every_public_name_is_known():
    assert sorted({*family.CASES, *family.ELSEWHERE}) == sorted(losses.__all__)


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory):
    """What all functions give in a process that cannot import torch."""
    file = tmp_path_factory.mktemp("family") / "values.npz"
    subprocess.run([sys.executable, pathlib.Path(family.__file__), file], check=True, timeout=300)
    with np.load(file) as found:
        return dict(found)


def assert_close(got, wanted, tolerance):
    assert got.shape == np.shape(wanted)
    finite = np.isfinite(wanted)
    assert np.array_equal(got[~finite], wanted[~finite], equal_nan=True)
    scale = np.abs(wanted[finite]).max(initial=1e-30)
    assert np.abs(got[finite].astype(np.float64) - wanted[finite]).max(initial=0) <= tolerance * scale


@pytest.mark.kernel
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_give_the_numbers_of_the_definition_without_torch(name, dtype, without_torch):
    for i, case in enumerate(family.CASES[name]):
        for reduction in family.reductions(name):
            for place, wanted in enumerate(family.defined(case, reduction)):
                got = without_torch[f"{dtype}/{name}/{i}/{reduction}/{place}"]
                assert got.dtype == dtype
                assert_close(got, np.asarray(wanted), TOLERANCE[dtype])


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_give_what_tensors_give(name, dtype):
    torch = pytest.importorskip("torch")
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    tensors = {each: torch.from_numpy(array) for each, array in family.inputs().items()}
    tensors = {each: x.to(getattr(torch, dtype)) if x.is_floating_point() else x for each, x in tensors.items()}
    arrays = family.inputs(dtype)
    of_head = "weight" in family.CASES[name][0][0]
    for case in family.CASES[name]:
        for reduction in family.reductions(name):
            if dtype == "bfloat16" and not of_head:
                with pytest.raises(TypeError, match=rf"^{name}: \w+ has dtype bfloat16; expected one of float16, float32, float64$"):
                    family.call(name, case, reduction, arrays)
                continue
            for got, wanted in zip(family.call(name, case, reduction, arrays), family.call(name, case, reduction, tensors), strict=True):
                assert isinstance(got, np.ndarray if wanted.ndim else (np.ndarray, np.generic))
                if got.dtype.name != "bfloat16":  # temperatures, which are kept as they are given
                    assert got.dtype == wanted.numpy().dtype
                digits = {"float64": 1e-12, "float32": 1e-5}.get(got.dtype.name, 5e-3)
                assert_close(got.astype(np.float64), wanted.double().numpy(), digits)


@pytest.mark.parametrize("name", NAMES)
def test_other_layouts_and_types_of_the_same_numbers_give_the_same(name):
    arrays = family.inputs("float32")
    others = {each: x.tolist() for each, x in arrays.items()}
    for each, x in arrays.items():
        if x.dtype == np.int64:
            others[each] = x.astype(np.int16)
        elif x.dtype != bool:
            others[each] = np.asfortranarray(x).astype(">f4")
    kept = {each: np.copy(x) for each, x in others.items()}
    case, reduction = family.CASES[name][0], family.reductions(name)[0]
    for got, wanted in zip(family.call(name, case, reduction, others), family.call(name, case, reduction, arrays), strict=True):
        assert_close(got, wanted, 1e-5)
    assert all(np.array_equal(kept[each], others[each]) for each in kept)


def test_rows_that_do_not_count_may_hold_anything():
    arrays = family.inputs()
    spoilt = family.inputs()
    for each in ("hidden", "perturbed", "teacher_hidden", "old", "reference"):
        spoilt[each][arrays["targets"] == family.IGNORED] = np.nan
    for name in NAMES:
        for case in family.CASES[name]:
            if "targets" in case[0]:
                for reduction in family.reductions(name):
                    got, wanted = (family.call(name, case, reduction, x)[0] for x in (spoilt, arrays))
                    assert np.array_equal(got, wanted), name


@pytest.mark.filterwarnings("error")
def test_the_mean_of_no_rows_is_nan_and_the_sum_zero():
    arrays = family.inputs()
    arrays["targets"][:] = family.IGNORED
    for name in NAMES:
        for case in family.CASES[name]:
            if "targets" in case[0] and "mean" in family.reductions(name):
                assert np.isnan(family.call(name, case, "mean", arrays)[0]), name
                assert family.call(name, case, "sum", arrays)[0] == 0, name


def test_one_row_without_dimensions_and_no_rows():
    arrays = family.inputs()
    hidden, weight, label = arrays["hidden"][0, 0], arrays["weight"], arrays["targets"][0, 0]
    for loss, options in ((losses.focal_loss, {}), (losses.ldr_k_kl_loss, {"k": 3}), (losses.z_score_loss, {})):
        one = loss(hidden, weight, label, reduction="none", **options)
        assert one.shape == () and one == pytest.approx(loss(hidden[None], weight, label[None], **options))
        none = loss(arrays["hidden"][:0], weight, arrays["targets"][:0], reduction="none", **options)
        assert none.shape == (0, 4) and none.dtype == np.float64


@pytest.mark.filterwarnings("error")
def test_no_pairs_and_negative_exponents_give_no_warning():
    none = np.empty(0, np.float32)
    assert np.isnan(losses.dpo_loss(none, none, none, none)) and losses.dpo_loss(none, none, none, none).dtype == np.float32
    for seed in range(9):
        assert np.isfinite(losses.ens_loss(np.linspace(-1, 1, 64), seed=seed, step=0, exponent=-0.7))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wide_margins_do_not_overflow(dtype):
    torch = pytest.importorskip("torch")
    hidden, weight, targets = np.ones((1, 1), dtype), np.array([[0], [93]], dtype), np.array([0])
    tensors = torch.tensor(hidden, requires_grad=True), torch.tensor(weight), torch.tensor(targets)
    for loss, options, wanted in ((losses.ldr_kl_loss, {"margin": 0.5}, 93.5 - np.log(2)), (losses.z_score_loss, {"alpha": 93.0}, None)):
        of_tensors = loss(*tensors, **options)
        of_tensors.backward()
        assert torch.isfinite(tensors[0].grad).all()
        assert loss(hidden, weight, targets, **options) == pytest.approx(of_tensors.item(), rel=1e-6)
        assert wanted is None or of_tensors.item() == pytest.approx(wanted, rel=1e-6)


def test_a_baseline_is_a_number_of_the_library():
    a, desirable = np.zeros(2), np.array([True, False])
    for baseline in (None, np.ma.masked, "abc"):
        with pytest.raises(TypeError, match="kto_loss: baseline"):
            losses.kto_loss(a, a, desirable, baseline)


def test_two_heads_of_mixed_types_are_float32_unless_one_is_float64():
    arrays = family.inputs("float32")
    hidden, weight = arrays["hidden"], arrays["weight"]
    for other, wanted in (("float16", "float32"), ("float64", "float64")):
        got = losses.distillation_loss(hidden.astype(other), weight, hidden, weight)
        assert got.dtype.name == wanted


def test_numbers_of_numpy_leave_the_dtype_alone():
    arrays = family.inputs("float32")
    half, two = np.float64(0.5), np.float64(2)
    found = [
        losses.focal_loss(arrays["hidden"], arrays["weight"], arrays["labels"], gamma=half),
        losses.ldr_kl_loss(arrays["hidden"], arrays["weight"], arrays["labels"], temperature=two, margin=half, reduction="none"),
        losses.dpo_loss(*(arrays[each] for each in ("chosen", "rejected", "reference_chosen", "reference_rejected")), beta=half),
        losses.loss_based_weights(arrays["losses"], delta=half, temperature=two),
        losses.dco_loss(arrays["chosen"][0], tries=3),
    ]
    assert {x.dtype.name for x in found} == {"float32"}


def bad_calls():
    a = family.inputs()
    head, pair = (a["hidden"], a["weight"], a["labels"]), (a["chosen"], a["rejected"])
    masked = np.ma.masked_array(a["chosen"], a["chosen"] < -2)
    focal, distil = losses.focal_loss, losses.distillation_loss
    return [
        (
            lambda: focal(a["hidden"], a["weight"][:, 1:], a["labels"]),
            ValueError,
            r"focal_loss: hidden has shape \(3, 4, 6\) and weight \(11, 5\)",
        ),
        (
            lambda: focal(*head[:2], a["labels"][0]),
            ValueError,
            r"focal_loss: targets has shape \(4,\); expected \(3, 4\), as hidden has rows",
        ),
        (lambda: focal(*head[:2], a["labels"] + 0.5), TypeError, "focal_loss: targets has dtype float64; expected int64"),
        (lambda: focal(*head[:2], a["labels"] + 11), IndexError, r"focal_loss: targets\["),
        (lambda: focal(*head, bias=a["bias"][1:]), ValueError, "focal_loss: bias has shape"),
        (lambda: focal(a["hidden"].astype(int), a["weight"].astype(int), a["labels"]), TypeError, "focal_loss: hidden has dtype int64"),
        (lambda: focal(*head, gamma=-1.0), ValueError, "focal_loss: gamma is -1.0; expected a number of at least 0"),
        (lambda: focal(np.ma.masked_array(a["hidden"], a["hidden"] > 0), *head[1:]), TypeError, "focal_loss: hidden is a masked array"),
        (lambda: losses.ldr_k_kl_loss(*head[:2], a["labels"] + 11, k=2), IndexError, "ldr_k_kl_loss: targets holds"),
        (
            lambda: losses.ldr_k_kl_loss(*head, k=2, bias=a["bias"][1:]),
            ValueError,
            r"ldr_k_kl_loss: bias has shape \(10,\); expected \(11,\)",
        ),
        (
            lambda: losses.ldr_k_kl_loss(a["labels"], np.ones((2, 4), int), a["labels"][:, 0], k=2),
            TypeError,
            "ldr_k_kl_loss: hidden has dtype int64",
        ),
        (lambda: losses.lagged_aldr_kl_loss(*head, -a["temperatures"]), ValueError, "lagged_aldr_kl_loss: temperatures holds -"),
        (lambda: losses.aggregate_cross_entropy(*head[:2], a["targets"]), IndexError, "aggregate_cross_entropy: labels holds -7 to"),
        (
            lambda: distil(*head[:2], a["teacher_hidden"], a["teacher_weight"][1:]),
            ValueError,
            "distillation_loss: teacher_weight has 10 classes",
        ),
        (
            lambda: distil(*head[:2], a["teacher_hidden"][0], a["teacher_weight"]),
            ValueError,
            "distillation_loss: teacher_hidden has rows of shape",
        ),
        (
            lambda: distil(*head[:2], *head[:2], softcap=-1.0),
            ValueError,
            "distillation_loss: softcap is -1.0; expected a positive number or None",
        ),
        (lambda: distil(*head[:2], *head[:2], teacher_bias=a["bias"][1:]), ValueError, "distillation_loss: teacher_bias has shape"),
        (
            lambda: losses.subset_distillation_loss(*head[:2], *head[:2], a["subset"] * 0.5),
            TypeError,
            "subset_distillation_loss: subset has dtype float64; expected int64",
        ),
        (
            lambda: losses.subset_distillation_loss(*head[:2], *head[:2], a["subset"] + 9),
            IndexError,
            "subset_distillation_loss: subset holds",
        ),
        (lambda: losses.top_k_distillation_loss(*head[:2], *head[:2], k=12), ValueError, "top_k_distillation_loss: k is 12"),
        (lambda: losses.npo_loss(masked, pair[1]), TypeError, "npo_loss: log_prob is a masked array"),
        (
            lambda: losses.npo_loss(pair[0], pair[1][:3]),
            ValueError,
            r"npo_loss: reference has shape \(3,\); expected that of the first argument, \(7,\)",
        ),
        (
            lambda: losses.npo_loss([1, 2], [1, 2]),
            TypeError,
            "npo_loss: log_prob has dtype int64; expected one of float16, float32, float64",
        ),
        (lambda: losses.dco_loss("a", tries=2), TypeError, "dco_loss: log_prob is a str; expected an array of numbers"),
        (lambda: losses.kto_loss(*pair, np.ones(7), 0.0), TypeError, "kto_loss: desirable is of float64; expected bool"),
        (
            lambda: losses.kto_loss(*pair, a["desirable"], np.zeros(2)),
            ValueError,
            r"kto_loss: baseline has shape \(2,\); expected a number",
        ),
        (lambda: losses.loss_based_weights(a["margins"]), ValueError, r"loss_based_weights: losses has shape \(3, 5\); expected \(B,\)"),
        (
            lambda: losses.perpendicular_gradient(a["parameter"], a["gradient"][1:]),
            ValueError,
            "perpendicular_gradient: gradient has shape",
        ),
        (lambda: losses.policy_gradient_loss(*head, a["losses"]), ValueError, r"policy_gradient_loss: advantages has shape \(5,\)"),
    ]


@pytest.mark.parametrize("number", range(len(bad_calls())))
def test_bad_arguments_are_named(number):
    call, kind, message = bad_calls()[number]
    with pytest.raises(kind, match=f"^{message}"):
        call()


@pytest.mark.torch
def test_arrays_and_tensors_are_not_mixed():
    torch = pytest.importorskip("torch")
    a = family.inputs()
    tensors = {each: torch.from_numpy(x) for each, x in a.items()}
    for call, message in (
        (
            lambda: losses.focal_loss(a["hidden"], a["weight"], tensors["labels"]),
            "focal_loss: hidden is a ndarray; expected a torch.Tensor",
        ),
        (
            lambda: losses.focal_loss(tensors["hidden"], tensors["weight"], a["labels"]),
            "focal_loss: targets is a ndarray; expected a torch.Tensor of int64",
        ),
        (lambda: losses.focal_loss(a["hidden"], a["weight"], a["labels"], bias=tensors["bias"]), "focal_loss: hidden is a ndarray"),
        (lambda: losses.npo_loss(tensors["chosen"], a["rejected"]), "npo_loss: reference is a ndarray; expected a torch.Tensor"),
        (
            lambda: losses.distillation_loss(a["hidden"], a["weight"], tensors["teacher_hidden"], tensors["teacher_weight"]),
            "distillation_loss: hidden is a ndarray; expected a torch.Tensor",
        ),
        (
            lambda: losses.lagged_aldr_kl_loss(a["hidden"], a["weight"], a["labels"], tensors["temperatures"]),
            "lagged_aldr_kl_loss: hidden is a ndarray; expected a torch.Tensor",
        ),
        (
            lambda: losses.compositional_likelihood_loss(
                tensors["hidden"], tensors["weight"], tensors["labels"], a["samples"], tensors["sample_log_prob"]
            ),
            "compositional_likelihood_loss: samples is a ndarray; expected a torch.Tensor",
        ),
    ):
        with pytest.raises(TypeError, match=f"^{message}"):
            call()


def test_the_gradient_in_the_docstring_is_that_of_the_focal_loss():
    """Its lines run as a doctest in test_losses.py; here they meet differences of values."""
    a = family.inputs()
    hidden, weight, targets = a["hidden"].reshape(-1, family.WIDTH), a["weight"], a["labels"].reshape(-1)
    scope = {"np": np, "losses": losses, "hidden": hidden, "weight": weight, "targets": targets}
    lines = inspect.getdoc(losses.row_statistics_and_grad).splitlines()
    shown = [line[4:] for line in lines if line.startswith((">>> ", "... "))]
    source = "\n".join(shown)
    exec(source[source.index("def focal_slopes") :], scope)
    direction = np.random.default_rng(1).normal(size=weight.shape)
    along = (losses.focal_loss(hidden, weight + h * direction, targets) for h in (1e-6, -1e-6))
    assert (scope["by_weight"] * direction).sum() == pytest.approx(np.subtract(*along) / 2e-6, rel=1e-7)
