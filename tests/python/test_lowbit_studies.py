# Contract of the package of studies: every public name has an example that runs, nothing heavy is imported before it is needed, and bad
# arguments are refused with the name of the argument, what it is and what is expected.
from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

from slipstick.lowbit import studies
from slipstick.lowbit.studies import _checks, scaling_law

MODULES = sorted(module.name for module in pkgutil.iter_modules(studies.__path__) if not module.name.startswith("_"))


@pytest.mark.parametrize("name", ["", *MODULES])
def test_examples_run(name):
    module = importlib.import_module(f"{studies.__name__}.{name}".rstrip("."))
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_and_method_has_an_example_and_its_module_exports_it(name):
    module = importlib.import_module(f"{studies.__name__}.{name}")
    for public in module.__all__:
        thing = getattr(module, public)
        if inspect.isfunction(thing):
            assert ">>>" in (thing.__doc__ or ""), public
        if inspect.isclass(thing):
            assert thing.__doc__
            methods = [value for key, value in vars(thing).items() if inspect.isfunction(value) and not key.startswith("_")]
            assert all(">>>" in (method.__doc__ or "") for method in methods), public
    exported = {"fit_scaling_law" if public == "fit" else public for public in module.__all__}
    assert exported <= set(studies.__all__)
    assert all(hasattr(studies, public) for public in studies.__all__)


def test_studies_import_neither_scipy_nor_torch_nor_matplotlib():
    code = (
        "import sys\n"
        "from slipstick.lowbit import studies\n"
        "import numpy as np\n"
        "studies.weight_distribution_loss([np.arange(9.0)] * 2)\n"
        "print(*sorted({'scipy', 'torch', 'matplotlib'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


LAW = scaling_law.ScalingLaw()
ONES = np.ones(3)
WRONG = [
    (
        lambda: studies.mask_mantissa(np.float32([1]), 24),
        ValueError,
        "mask_mantissa: mantissa_bits is 24; expected a whole number from 0 to 23",
    ),
    (
        lambda: studies.mask_mantissa(np.float32([1]), 3.0),
        TypeError,
        "mask_mantissa: mantissa_bits is 3.0; expected a whole number from 0 to 23",
    ),
    (lambda: studies.mask_mantissa(np.int32([1]), 3), TypeError, "mask_mantissa: values has dtype int32; expected one of float16, "),
    (
        lambda: studies.clip_exponent(np.float32([1]), 9),
        ValueError,
        "clip_exponent: exponent_bits is 9; expected a whole number from 2 to 8",
    ),
    (
        lambda: studies.clip_exponent(np.float32([1]), 4, bias=200),
        ValueError,
        "clip_exponent: bias is 200, for exponents from -199 to -186; ",
    ),
    (lambda: studies.reduce_bits(np.float32([1]), 4, -1), ValueError, "mask_mantissa: mantissa_bits is -1; expected"),
    (lambda: studies.logit_sharpness([1.0, 2.0], 2), ValueError, "logit_sharpness: targets holds 2 to 2; expected 0 to 1"),
    (lambda: studies.logit_sharpness([1.0, 2.0], 0.0), TypeError, "logit_sharpness: targets has dtype float64; expected whole numbers"),
    (
        lambda: studies.logit_sharpness([[1.0, 2.0]], 0),
        ValueError,
        "logit_sharpness: targets has shape (); expected (1,), as logits has (1, 2)",
    ),
    (
        lambda: studies.logit_sharpness([1.0], 0, epsilon=-1),
        ValueError,
        "logit_sharpness: epsilon is -1.0; expected a finite number, at least 0",
    ),
    (
        lambda: studies.logit_sharpness([1.0], 0, reduction="sum"),
        ValueError,
        "logit_sharpness: reduction is 'sum'; expected 'none' or 'mean'",
    ),
    (
        lambda: studies.logit_sharpness(np.ones((0, 3)), np.ones(0, int), reduction="mean"),
        ValueError,
        "logit_sharpness: there are no rows; ",
    ),
    (lambda: studies.cross_entropy(np.ones((2, 0)), [0, 0]), ValueError, "cross_entropy: logits has shape (2, 0); expected (..., classes)"),
    (lambda: LAW.loss(0, 1e9, 4, 3), ValueError, "loss: parameters holds 0; expected values greater than 0"),
    (lambda: LAW.loss(1e9, np.nan, 4, 3), ValueError, "loss: tokens holds NaN or infinity; expected finite numbers"),
    (lambda: LAW.best_split(0), ValueError, "best_split: bits is 0; expected a whole number from 1 to 64"),
    (lambda: LAW.optimal_bits(), ValueError, "optimal_bits: got nothing; expected tokens, or parameters and operations"),
    (lambda: LAW.optimal_bits(tokens=1e9, parameters=1e9), ValueError, "optimal_bits: got tokens and parameters; expected tokens, or"),
    (lambda: LAW.compute_optimal(1e-6), ValueError, "compute_optimal: operations is 1e-06, for which"),
    (lambda: scaling_law.ScalingLaw(alpha=-1), ValueError, "ScalingLaw: alpha is -1.0; expected a finite number, greater than 0"),
    (lambda: scaling_law.fit(ONES, ONES, ONES, ONES, ONES), ValueError, "fit: there are (3,) runs; expected a vector of at least 8"),
    (lambda: scaling_law.fit(*np.ones((5, 9))), ValueError, "fit: parameters is 1 in all runs; expected at least two values"),
    (lambda: studies.equal_loss_bits([1, -1], 3), ValueError, "equal_loss_bits: coefficients holds -1; expected values of at least 0"),
    (lambda: studies.equal_loss_bits([], 3), ValueError, "equal_loss_bits: coefficients is empty; expected at least one element"),
    (
        lambda: studies.equal_loss_bits([1, 2], 3, maximum=2),
        ValueError,
        "equal_loss_bits: mean_bits is 3.0; expected a finite number, at least 0, at ",
    ),
    (lambda: studies.integer_bits([1, 2], 9, maximum=4), ValueError, "integer_bits: total_bits is 9; expected a whole number from 0 to 8"),
    (lambda: studies.integer_bits([1, 2], 4.0), TypeError, "integer_bits: total_bits is 4.0; expected a whole number of at least 0"),
    (
        lambda: studies.measured_bits([[1.0, 2.0]], 1),
        ValueError,
        "measured_bits: losses rises in column 0; expected losses that fall with bits",
    ),
    (
        lambda: studies.measured_bits([[3.0, 2.5, 1.0]], 1),
        ValueError,
        "measured_bits: losses is not convex in column 0; expected every bit",
    ),
    (lambda: studies.measured_bits([[3.0, 2.5]], 2), ValueError, "measured_bits: total_bits is 2; expected a whole number from 0 to 1"),
    (lambda: studies.column_coefficients([1], [0]), ValueError, "column_coefficients: inverse_hessian_diagonal holds 0; expected positive"),
    (
        lambda: studies.column_coefficients([1], [1, 2]),
        ValueError,
        "column_coefficients: inverse_hessian_diagonal has length 2; expected 1",
    ),
    (lambda: studies.allocation_loss([1], [1, 2]), ValueError, "allocation_loss: bits has length 2; expected 1, as coefficients"),
    (lambda: studies.kl_divergence([1.0], [1.0, 2.0]), ValueError, "kl_divergence: candidate_logits has shape (2,) and base_logits (1,); "),
    (lambda: studies.kl_divergence([1.0], [1.0], top=2), ValueError, "kl_divergence: top is 2; expected a whole number from 1 to 1"),
    (
        lambda: studies.space_utilization([[1.0, 2.0]]),
        ValueError,
        "log_space_utilization: covariance has shape (1, 2); expected a square matrix",
    ),
    (
        lambda: studies.space_utilization([[1.0, 2.0], [0.0, 1.0]]),
        ValueError,
        "log_space_utilization: covariance differs from its transpose by 2",
    ),
    (
        lambda: studies.space_utilization([[1.0, 2.0], [2.0, 1.0]]),
        ValueError,
        "log_space_utilization: covariance has the eigenvalue -1; expected",
    ),
    (
        lambda: studies.space_utilization(np.eye(2), alpha=1),
        ValueError,
        "log_space_utilization: alpha is 1.0; expected a number between 0 and 1",
    ),
    (lambda: studies.space_utilization(np.zeros((2, 2))), ValueError, "log_space_utilization: covariance is zero; expected a distribution"),
    (
        lambda: studies.whitening_transform(np.diag([1.0, 0.0])),
        ValueError,
        "whitening_transform: covariance has eigenvalues from 0 to 1; expected",
    ),
    (lambda: studies.hadamard(12), ValueError, "hadamard: size is 12; expected a power of two"),
    (lambda: studies.power_quantize([1.0], 0, 4), ValueError, "power_quantize: exponent is 0.0; expected a finite number, greater than 0"),
    (lambda: studies.power_quantize([1.0], 1, 1), ValueError, "power_quantize: bits is 1; expected a whole number from 2 to 32"),
    (lambda: studies.power_quantize([np.nan], 1, 4), ValueError, "power_quantize: weights holds NaN or infinity; expected finite numbers"),
    (
        lambda: studies.power_dequantize([8], 1.0, 1, 4),
        ValueError,
        "power_dequantize: codes holds 8 in magnitude; expected at most 7 for 4 bits",
    ),
    (lambda: studies.search_exponent([], 4), ValueError, "search_exponent: weights is empty; expected at least one array"),
    (lambda: studies.skewness_and_kurtosis([1.0]), ValueError, "skewness_and_kurtosis: weights has 1 elements; expected at least 2"),
    (
        lambda: studies.weight_distribution_loss([ONES]),
        ValueError,
        "weight_distribution_loss: weights has 1 layers; expected at least 2 as",
    ),
    (
        lambda: studies.guidance_losses([[1.0]], [[1.0]], [[1.0, 2.0]], [0]),
        ValueError,
        "guidance_losses: logits have shapes [(1, 1), (1, 1), (1, 2)]",
    ),
    (lambda: studies.guidance_losses([[1.0]], [[1.0]], [[1.0]], [1]), ValueError, "guidance_losses: targets holds 1 to 1; expected 0 to 0"),
    (lambda: studies.learning_rate_sensitivity([], 1.0), ValueError, "learning_rate_sensitivity: losses is empty; expected at least one"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=[f"{i}-{row[2].split(':')[0]}" for i, row in enumerate(WRONG)])
def test_bad_arguments_are_refused_with_what_they_are_and_what_is_expected(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value).startswith(message)


def test_checks_take_whole_numbers_of_numpy_but_no_booleans():
    assert _checks.integer("f", "x", np.int8(3), 0) == 3
    for value in (True, np.True_, "3", None):
        with pytest.raises(TypeError):
            _checks.integer("f", "x", value, 0)
