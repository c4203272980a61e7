"""`lstsq`, `sketch` and `kronecker_sketch` of CUDA tensors: passes over A on its device, by torch's products and slipstick._cuda; small dense work, and what is
decided by it, on the host as for arrays. Needs torch.

Sums are in float64 and in the order of blocks of rows that the shape alone decides: the same bits in every run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from slipstick._arguments import is_torch
from slipstick._errors import UnsupportedError
from slipstick._extension import cuda_extension

from . import _arguments
from ._problem import Array, Problem

BLOCK_BYTES = 1 << 28  # of A in float64 that one product reads
KINDS = ("sjlt", "srht", "gaussian", "gaussian_pooled", "tensor_left", "tensor_right")  # in the order of sketch.h
TAME = 1e100  # magnitudes up to it, and down to its reciprocal, whose squares QR on a device can take


def kernels(where: str, A: torch.Tensor) -> Any:  # noqa: N803
    extension = cuda_extension()
    if extension is None:
        raise UnsupportedError(f"{where}: A is on {A.device}; expected the CPU, or slipstick-cu13 installed beside slipstick")
    return extension.sketch


def _place(x: torch.Tensor) -> tuple[int, int]:
    return x.device.index, torch.cuda.current_stream(x.device).cuda_stream


def applied(
    where: str,
    A: torch.Tensor,  # noqa: N803
    scale: torch.Tensor | None,
    kind: str,
    seed: int,
    rows: int,
    nonzeros: int,
    first_row: int,
) -> torch.Tensor:
    """S A of a matrix of float32 or float64, float64 (rows, d) on its device. scale: (n,) float64 without gaps."""
    of, number = kernels(where, A), KINDS.index(kind)
    n, d = A.shape
    workspace = torch.empty(of.sketch_bytes(number, rows, nonzeros, n, d, first_row), dtype=torch.uint8, device=A.device)
    out = torch.empty(rows, d, dtype=torch.float64, device=A.device)
    to_scale = 0 if scale is None else scale.data_ptr()
    matrix = A.data_ptr(), A.dtype == torch.float32, n, d, A.stride(0), A.stride(1)
    of.sketch(_place(A), number, seed, rows, nonzeros, *matrix, to_scale, first_row, workspace.data_ptr(), out.data_ptr())
    return out


def fused_residual(
    where: str,
    A: torch.Tensor,  # noqa: N803
    b: torch.Tensor,
    scale: torch.Tensor | None,
    x: torch.Tensor,
) -> torch.Tensor:
    """A^T R and, as its last row, the squared norms of the columns of R = b - A x, float64 (d + 1, k) on A's device, from one read of A.
    b: (n, k); x: (d, k) float64 without gaps.
    """
    of, (n, d), k = kernels(where, A), A.shape, b.shape[1]
    workspace = torch.empty(of.residual_bytes(n, d, k), dtype=torch.uint8, device=A.device)
    out = torch.empty(d + 1, k, dtype=torch.float64, device=A.device)
    matrix = A.data_ptr(), A.dtype == torch.float32, n, d, A.stride(0), A.stride(1)
    right = b.data_ptr(), b.dtype == torch.float32, k, b.stride(0), b.stride(1)
    to_scale = 0 if scale is None else scale.data_ptr()
    of.residual(_place(A), *matrix, *right, to_scale, x.data_ptr(), workspace.data_ptr(), out.data_ptr())
    return out


@dataclasses.dataclass
class TensorProblem(Problem):
    """A, b and scale are tensors of one device; what passes return is on the host."""

    A: Any
    b: Any
    scale: Any = None
    factors: Any = None  # R factors of blocks, once they are made

    @property
    def observations(self) -> int:
        return (self.rows if self.scale is None else int(torch.count_nonzero(self.scale))) - self.lost

    def _pieces(self, rows: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A and b in blocks of rows, scaled, in float64; views where they are so already."""
        step = rows or max(1024, BLOCK_BYTES // (8 * max(1, self.columns + self.rights)))
        for first in range(0, self.rows, step):
            a, b = (x[first : first + step].to(torch.float64) for x in (self.A, self.b))
            if self.scale is not None:
                factor = self.scale[first : first + step, None]
                a, b = a * factor, b * factor
            yield a, b

    def gram(self, inverse_r: Array | None = None) -> Array:
        d, k = self.columns, self.rights
        inverse = None if inverse_r is None else self._on_device(inverse_r)
        total = torch.zeros(d + k, d + k, dtype=torch.float64, device=self.A.device)
        for a, b in self._pieces():
            w = a if inverse is None else a @ inverse
            total[:d, :d] += w.T @ w
            total[:d, d:] += w.T @ b
            total[d:, d:] += b.T @ b
        self.passes += 1
        out = total.cpu().numpy()
        out[d:, :d] = out[:d, d:].T
        if self.ridge:
            out[:d, :d] += self.ridge * (np.eye(d) if inverse_r is None else inverse_r.T @ inverse_r)
        return out

    def residual(self, x: Array) -> tuple[Array, Array]:
        on_device = self._on_device(x)
        if self.A.stride(1) == 1 and self.rights <= kernels(self.where, self.A).residual_most_rights(self.columns):
            found = fused_residual(self.where, self.A, self.b, self.scale, on_device).cpu().numpy()
            of_rows, norms = found[:-1], found[-1]
        else:
            of_rows, norms = self._residual_by_products(on_device)
        self.passes += 1
        if self.ridge:
            of_rows -= self.ridge * x
            norms += self.ridge * np.sum(x * x, axis=0)
        return of_rows, norms

    def _residual_by_products(self, x: torch.Tensor) -> tuple[Array, Array]:
        gradient, squares = torch.zeros_like(x), torch.zeros(x.shape[1], dtype=torch.float64, device=self.A.device)
        for a, b in self._pieces():
            rest = b - a @ x
            gradient += a.T @ rest
            squares += (rest * rest).sum(0)
        return gradient.cpu().numpy(), squares.cpu().numpy()

    def sketch(self, kind: str, rows: int, nonzeros: int) -> Array:
        parts = [applied(self.where, x, self.scale, kind, self.seed, rows, nonzeros, 0) for x in (self.A, self.b)]
        self.passes += 1
        return torch.cat(parts, 1).cpu().numpy()

    def blocks(self, rows: int) -> Iterator[Array]:
        """R factors of blocks of [A b] in place of the blocks, as each makes the same sums; [A b] itself where it is wide, or out of scale."""
        self.passes += 1
        if self.factors is None and self.rows >= self.columns + self.rights and self._is_tame():
            qr = torch.linalg.qr
            self.factors = [qr(torch.cat(piece, 1), mode="r").R.cpu().numpy() for piece in self._pieces()]
        if self.factors is not None:
            yield from (np.asfortranarray(factor) for factor in self.factors)
        else:
            yield from (np.asfortranarray(torch.cat(piece, 1).cpu().numpy()) for piece in self._pieces(rows))
        yield from self.ridge_rows()

    def _is_tame(self) -> bool:
        if self.rows == 0:
            return True
        for piece in self._pieces():
            for x in piece:
                sizes = x.abs()
                low = torch.where(sizes > 0, sizes, 1.0)
                if x.numel() and not bool((sizes.max() <= TAME) & (low.min() >= 1 / TAME)):
                    return False
        return True

    def rows_at(self, picked: Array) -> Array:
        at = torch.from_numpy(picked).to(self.A.device)
        rows = self.A[at].to(torch.float64)
        return (rows if self.scale is None else rows * self.scale[at, None]).cpu().numpy()

    def homogeneous(self) -> TensorProblem:
        zero = torch.zeros(1, 1, dtype=torch.float64, device=self.A.device)
        return dataclasses.replace(self, b=zero.expand(self.rows, self.rights), passes=0, factors=None)

    def brought_near_one(self, of_a: int, of_b: int) -> TensorProblem:
        def shifted(x: torch.Tensor, exponent: int) -> torch.Tensor:
            half = exponent // 2  # 2^exponent may be no float64
            return x.to(torch.float64) * 2.0**half * 2.0 ** (exponent - half)

        ridge = float(np.ldexp(self.ridge, -2 * of_a))
        return dataclasses.replace(self, A=shifted(self.A, -of_a), b=shifted(self.b, -of_b), ridge=ridge, factors=None)

    def refuse_non_finite(self) -> None:
        for name, x in (("A", self.A), ("b", self.b)):
            if not bool(torch.isfinite(x).all()):
                _arguments.refuse_non_finite(self.where, name, x.cpu().numpy())

    def _on_device(self, x: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.A.device)


def on_one_device(where: str, **arguments: Any) -> None:
    """Refuses what is not a tensor on the device of the first one that is on CUDA; None passes."""
    like, device = next((name, x.device) for name, x in arguments.items() if is_torch(x) and x.device.type == "cuda")
    for name, x in arguments.items():
        if x is not None and (not is_torch(x) or x.device != device):
            got = f"on {x.device}" if is_torch(x) else type(x).__name__
            raise TypeError(f"{where}: {name} is {got}; expected a tensor on {device}, as {like} is one")


def matrix(where: str, name: str, x: torch.Tensor, dimensions: tuple[int, ...]) -> torch.Tensor:
    """x as float32 or float64; the rules of _arguments.matrix."""
    if x.dtype not in (torch.float32, torch.float64):
        if x.dtype.is_complex or x.dtype == torch.bfloat16:
            raise TypeError(f"{where}: {name} has dtype {str(x.dtype).removeprefix('torch.')}; expected float32, float64 or integers")
        x = x.to(torch.float64)
    if x.ndim not in dimensions:
        raise ValueError(f"{where}: {name} has {x.ndim} dimensions; expected {' or '.join(map(str, dimensions))}")
    return x


def row_scale(where: str, weights: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    """Square roots of the weights, or None; the rules of _arguments.row_scale."""
    if weights is None:
        return None
    numbers = matrix(where, "weights", weights, (1,))
    if numbers.shape[0] != rows:
        raise ValueError(f"{where}: weights has {numbers.shape[0]} rows; expected {rows}, the rows of A")
    if not bool((torch.isfinite(numbers) & (numbers >= 0)).all()):
        _arguments.row_scale(where, numbers.cpu().numpy(), rows)  # says where
    return numbers.to(torch.float64).sqrt().contiguous()


def problem_of(where: str, A: torch.Tensor, b: torch.Tensor, weights: torch.Tensor | None, ridge: float, seed: int) -> TensorProblem:  # noqa: N803
    """Checked."""
    kernels(where, A)
    of_rows, right = matrix(where, "A", A.detach(), (2,)), matrix(where, "b", b.detach(), (1, 2))
    if right.shape[0] != of_rows.shape[0]:
        raise ValueError(f"{where}: b has {right.shape[0]} rows; expected {of_rows.shape[0]}, the rows of A")
    scale = row_scale(where, None if weights is None else weights.detach(), of_rows.shape[0])
    return TensorProblem(where, of_rows, right if right.ndim == 2 else right[:, None], scale, ridge, seed)


def sketch(
    where: str,
    A: torch.Tensor,  # noqa: N803
    kind: str,
    seed: int,
    rows: int,
    nonzeros: int,
    first_row: int,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """S A, float64 on A's device. Of what on_one_device has passed."""
    kernels(where, A)
    of_rows = matrix(where, "A", A.detach(), (2,))
    return applied(where, of_rows, row_scale(where, weights, of_rows.shape[0]), kind, seed, rows, nonzeros, first_row)


def kronecker_sketch(
    where: str,
    A1: torch.Tensor,  # noqa: N803
    A2: torch.Tensor,  # noqa: N803
    seed: int,
    rows: int,
    first_rows: tuple[int, int],
) -> torch.Tensor:
    """S (A1 (x) A2), float64 on their device. Of what on_one_device has passed."""
    kernels(where, A1)
    left, right = (
        applied(where, matrix(where, name, x.detach(), (2,)), None, kind, seed, rows, 1, first)
        for name, x, kind, first in (("A1", A1, "tensor_left", first_rows[0]), ("A2", A2, "tensor_right", first_rows[1]))
    )
    return float(np.sqrt(rows)) * (left[:, :, None] * right[:, None, :]).reshape(rows, -1)
