"""`lstsq` on torch tensors of the CPU or CUDA, differentiable in A, b, weights by implicit differentiation. Imported when a tensor is given; needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from . import _arguments, _lstsq


class _Lstsq(torch.autograd.Function):
    """x(A, b, w) with M x = A^T W b, M = A^T W A + ridge I; for a gradient g of x and z = M^-1 g:
    dA = W (r z^T - A z x^T), db = W A z, dw = (A z) r, r = b - A x.
    """

    @staticmethod
    def forward(ctx: Any, A: Any, b: Any, weights: Any, options: dict[str, Any], holder: list[Any]) -> Any:  # noqa: N803
        kind = torch.promote_types(A.dtype, b.dtype)
        result = _on_device(A, b, weights, **options) if A.is_cuda else _of_arrays(A, b, weights, options)
        holder.append(result)
        x = torch.from_numpy(np.ascontiguousarray(result.x)).to(A.device, kind if kind.is_floating_point else torch.float64)
        ctx.save_for_backward(A, b, weights, x)
        ctx.options, ctx.rank = options, result.rank
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        A, b, weights, x = ctx.saved_tensors  # noqa: N806
        columns = A.shape[1]
        if ctx.rank < columns:
            raise ValueError(f"lstsq: rank of A is {ctx.rank}; expected {columns}, its columns, for a gradient")
        wide = torch.float64
        flat = x.ndim == 1
        a, g = A.to(wide), gradient.to(wide)
        right, solution = (part.to(wide)[:, None] if flat else part.to(wide) for part in (b, x))
        z = _normal_solve(a, g[:, None] if flat else g, weights, ctx.options["ridge"])
        rest, image = right - a @ solution, a @ z
        scale = None if weights is None else weights.to(wide)[:, None]
        d_a = (rest if scale is None else scale * rest) @ z.T - (image if scale is None else scale * image) @ solution.T
        d_b = image if scale is None else scale * image
        d_w = None if weights is None else (image * rest).sum(1).to(weights.dtype)
        return d_a.to(A.dtype), (d_b[:, 0] if flat else d_b).to(b.dtype), d_w, None, None


def _normal_solve(a: Any, g: Any, weights: Any, ridge: float) -> Any:
    """(A^T W A + ridge I)^-1 g by the R factor of [sqrt(W) A; sqrt(ridge) I], so that the condition is not squared before it must be."""
    stacked = a if weights is None else a * weights.to(a.dtype).sqrt()[:, None]
    if ridge:
        stacked = torch.cat((stacked, ridge**0.5 * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)))
    # Under create_graph this is differentiated again, for which torch wants Q as well.
    r = torch.linalg.qr(stacked, mode="reduced" if torch.is_grad_enabled() else "r").R
    inner = torch.linalg.solve_triangular(r.T, g, upper=False)
    return torch.linalg.solve_triangular(r, inner, upper=True)


def _array(tensor: Any) -> Any:
    return tensor.detach().numpy()


def _of_arrays(A: Any, b: Any, weights: Any, options: dict[str, Any]) -> _lstsq.LstsqResult:  # noqa: N803
    return _lstsq.lstsq(_array(A), _array(b), weights=None if weights is None else _array(weights), **options)


def _on_device(
    A: Any,  # noqa: N803
    b: Any,
    weights: Any,
    *,
    ridge: float,
    method: str,
    rtol: float | None,
    seed: int,
    threads: int | None,
) -> _lstsq.LstsqResult:
    from . import _cuda

    where = "lstsq"
    _arguments.thread_count(where, threads)  # of the host, which has no part in the passes
    numbers = _arguments.non_negative(where, "ridge", ridge), _arguments.seed_of(where, seed)
    return _lstsq.of_problem(_cuda.problem_of(where, A, b, weights, *numbers), method, rtol, b.ndim == 1)


def lstsq(A: Any, b: Any, weights: Any, options: dict[str, Any]) -> _lstsq.LstsqResult:  # noqa: N803
    """See slipstick.sketch.lstsq. x and standard_errors are tensors of the dtype of A and b, float64 where both are integers.

    Raises:
        TypeError: not all of A, b and weights are tensors, or they are not on the CPU or on one CUDA device.
    """
    for name, part in (("A", A), ("b", b), ("weights", weights)):
        if part is None and name == "weights":
            continue
        if not isinstance(part, torch.Tensor):
            raise TypeError(f"lstsq: {name} is {type(part).__name__}; expected a tensor, as the other arguments are")
        if part.device.type not in ("cpu", "cuda"):
            raise TypeError(f"lstsq: {name} is on {part.device}; expected the CPU or CUDA")
        if part.device != A.device:
            raise TypeError(f"lstsq: {name} is on {part.device}; expected {A.device}, as A is there")
    holder: list[Any] = []
    x = _Lstsq.apply(A, b, weights, options, holder)  # type: ignore[no-untyped-call]
    return _lstsq.with_tensors(holder[0], x, torch.from_numpy(np.ascontiguousarray(holder[0].standard_errors)).to(x.device, x.dtype))
