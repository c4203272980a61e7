"""The CUDA extension where it is installed: slipstick built with SLIPSTICK_CUDA, or the wheel slipstick-cu13 beside it. Imports nothing heavy."""

from __future__ import annotations

import functools
import importlib
import importlib.util

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any


@functools.cache
def cuda_extension() -> Any:
    """slipstick._cuda, or None where it is not installed or, with a RuntimeWarning, of another version, whose kernels take other bytes. The CPU
    needs none, and a CUDA tensor then gets the error that it gets without one.
    """
    if importlib.util.find_spec("slipstick._cuda") is None:
        return None
    import slipstick

    module = importlib.import_module("slipstick._cuda")
    if module.version() != slipstick.__version__:
        import warnings

        warnings.warn(
            f"slipstick is {slipstick.__version__} and its CUDA extension, left out, {module.version()}; expected slipstick-cu13 of the same version",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return module
