"""Gradients orthogonal to their parameter, for any optimizer: the direction that only scales logits is taken out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ._arrays import Array, astype, floats, library, norm, quiet, stop_gradient
from ._head import check_flag

if TYPE_CHECKING:
    import torch

NOISE = 16  # units of rounding of the gradient's norm; what is left of a gradient parallel to its parameter is below


@quiet
def perpendicular_gradient(parameter: Array, gradient: Array, *, preserve_norm: bool = False) -> Array:
    """g - (w.g / w.w) w, w and g the whole tensors as vectors.

    Args:
        parameter: torch tensor or NumPy array of any shape, of float16, float32, float64 or, of torch alone, bfloat16.
        gradient: the same shape.
        preserve_norm: scale the result to the norm of the gradient, as the released code does and the paper does not.
    Returns:
        A new one of the shape and dtype of gradient. The gradient itself where the parameter is 0; 0 where the two are parallel up
        to rounding, with preserve_norm too.
    Raises:
        TypeError: an array is of another dtype, arrays and tensors are mixed. ValueError: shapes differ.
    Notes:
        Dot products are taken in float64.
    Source: Prieto et al. 2025, Grokking at the edge of numerical stability (arXiv:2501.04697), definition 7.
    """
    check_flag("perpendicular_gradient", "preserve_norm", preserve_norm)
    parameter, gradient = floats("perpendicular_gradient", parameter=parameter, gradient=gradient)
    if gradient.shape != parameter.shape:
        raise ValueError(
            f"perpendicular_gradient: gradient has shape {tuple(gradient.shape)}; expected that of parameter, {tuple(parameter.shape)}"
        )
    xp = library(gradient)
    w, g = (astype(stop_gradient(x), xp.float64) for x in (parameter, gradient))
    squares = (w * w).sum()
    rest = g - xp.where(squares > 0, (w * g).sum() / xp.where(squares > 0, squares, 1.0), 0.0) * w
    whole, left = norm(g), norm(rest)
    parallel = left <= NOISE * xp.finfo(gradient.dtype).eps * whole
    factor = whole / xp.where(parallel, 1.0, left) if preserve_norm else 1.0
    return astype(xp.where(parallel, 0.0, rest * factor), gradient.dtype)


def project_gradients(parameters: Iterable[torch.Tensor], *, preserve_norm: bool = False) -> None:
    """Replaces the .grad of every parameter by its perpendicular_gradient; call it between backward() and the optimizer's step().

    Args:
        parameters: torch tensors; those without a gradient are left alone.
        preserve_norm: see perpendicular_gradient.
    """
    import torch

    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.copy_(perpendicular_gradient(parameter, parameter.grad, preserve_norm=preserve_norm))
