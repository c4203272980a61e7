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
    """slipstick._cuda, or None where it is not installed.

    Raises:
        ImportError: it is of another version, whose kernels take other bytes.
    """
    if importlib.util.find_spec("slipstick._cuda") is None:
        return None
    import slipstick

    module = importlib.import_module("slipstick._cuda")
    if module.version() != slipstick.__version__:
        raise ImportError(
            f"slipstick is {slipstick.__version__} and its CUDA extension {module.version()}; expected slipstick-cu13 of the same version"
        )
    return module
