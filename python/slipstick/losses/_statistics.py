"""Statistics of the logits of a linear head, one number a row, from one streamed pass over the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from slipstick._arguments import int64, integer, is_torch, thread_count

from . import _head

__all__ = ["ERROR_BOUNDS", "RowStatistics", "TopK", "row_statistics"]

ERROR_BOUNDS = {
    "lse_ulp": 4.0,
    "gradient_float32": 1e-5,
    "gradient_bfloat16": 2e-3,
    "gradient_float16": 5e-4,
    "gradient_float64": 1e-13,
    "two_heads_float32": 2.0**-20,
    "two_heads_float64": 2.0**-48,
}
"""What the tests hold the room to, on random normal inputs whose logits have a standard deviation of at most 4: units in the last place of a
float32 lse, and errors of whole gradients relative to their norm. For 16 bits that is one rounding; an upstream gradient other than 1, or class_weight with label_smoothing, adds another, and so does CUDA for bfloat16. two_heads: of
two_head_statistics, times 1 + the largest |logit| of both heads, and times V for the binary divergences."""


class TopK(NamedTuple):
    """The largest logits of each row, falling; equal ones by rising index."""

    values: Any
    indices: Any


class RowStatistics:
    """What row_statistics returns. Reading an attribute that was not wanted raises AttributeError.

    Attributes:
        target: (rows,) logit of the target.
        lse: (rows,) log-sum-exp, natural log.
        mean: (rows,) average of the logits over the vocabulary.
        second_moment: (rows,) average of their squares.
        expected: (rows,) sum of p_j z_j, p = softmax(z).
        entropy: (rows,) of p, in nats: lse - expected.
        maximum: (rows,) largest logit.
        argmax: (rows,) int64, its lowest index.
        topk: TopK of (rows, topk) values and int64 indices.
        collapsed: (rows,) bool, whether sum_j e^z_j rounds to e^z_y, so that the gradient by the target's logit is 0: softmax collapse
            (Prieto et al. 2025, arXiv:2501.04697, definition 3). For float64 also where lse rounds to the target's logit. True in ignored rows.
    """

    def __init__(self, parts: dict[str, Any], want: tuple[str, ...]) -> None:
        self._parts = parts
        self._want = want

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _head.STATISTICS:
            raise AttributeError(f"RowStatistics has no attribute {name!r}")
        if name not in self._want:
            raise AttributeError(f"RowStatistics: {name} was not asked for; expected it in want, which is {self._want}")
        if name == "entropy":
            lse, expected = self._parts["lse"], self._parts["expected"]
            if is_torch(lse):
                return lse - expected
            import numpy as np

            with np.errstate(invalid="ignore"):  # infinity less infinity
                return lse - expected
        return self._parts[name]

    def __dir__(self) -> list[str]:
        return sorted(self._want)

    def __repr__(self) -> str:
        return f"RowStatistics({', '.join(self._want)})"


def row_statistics(
    hidden: Any,
    weight: Any,
    targets: Any = None,
    *,
    bias: Any = None,
    want: Iterable[str] = ("target", "lse"),
    softcap: float | None = None,
    scale: Any = 1.0,
    ignore_index: int = -100,
    topk: int = 0,
    logit_map: str | None = None,
    filter_eps: float | str | None = None,
    workspace: int | None = None,
    threads: int | None = None,
) -> RowStatistics:
    """Statistics of the logits z = map(scale * (hidden @ weight.T + bias)) of every row, without the logits in memory.

    Any differentiable function of them is a loss of the head: the backward is one more streamed pass, whatever the loss.

    Args:
        hidden: (rows, width) torch tensor or NumPy array of float32, bfloat16, float16 or float64. A CUDA tensor needs slipstick-cu13.
        weight: (vocabulary, width), same dtype; read in place where its rows are contiguous.
        targets: (rows,) int64 or None. Rows with ignore_index are skipped: their statistics are 0 (indices -1), and they get no gradient.
        bias: (vocabulary,) float or None.
        want: names of the attributes to compute, see RowStatistics; each costs little beside the product.
        softcap: cap of cap * tanh(z / cap), or None.
        scale: factor of the logits, before the cap: a number, or for tensors one of one element, which gets its gradient where it is not 0.
        ignore_index: the target of rows to skip.
        topk: how many of the largest logits to keep, at most 256; asking for it puts "topk" in want.
        logit_map: None, or "stablemax" for sign(z) log(1 + |z|), whose softmax is StableMax (Prieto et al. 2025, arXiv:2501.04697).
        filter_eps: None for exact gradients. A number drops the elements of dz = p (a + b z) + ... below filter_eps (|a| + |b|), and spreads
            their sum evenly over the vocabulary; "auto" is 1/32 of the dtype's unit (Wijmans et al. 2024, arXiv:2411.09009).
        workspace: bytes that the backward may use beyond the gradients; default 64 MiB, on CUDA 256 MiB. Fewer bytes make it slower, not less exact. Each thread
            at work has buffers of its own besides, up to 1 KiB times (width + rows taken at once). Gradients of 16 bits by a weight take a sum
            in float32 besides where not all rows fit at once, or where filter_eps leaves more elements than a quarter of the bytes holds. On CUDA a
            filter saves no time, and rounds a 16-bit gradient by the weight once more.
        threads: positive int; default see slipstick.set_num_threads, and torch's own count for tensors. No bit of the result depends on it.
    Returns:
        RowStatistics, in float64 for float64 inputs, else in float32. Those of tensors are differentiable once, in reverse mode (a second
        derivative or a forward-mode one raises), argmax and indices excepted; gradients of the maximum and of topk go to the indices found.
        softcap and filter_eps are numbers: a tensor that asks for a gradient is refused.
    Raises:
        TypeError: dtypes differ or are none of those above. IndexError: a target is no class. ValueError: shapes do not fit, an option is out
        of range, "target" is wanted without targets. UnsupportedError: on CUDA, 16 bits of a torch before 2.8.
    Notes:
        Sums over the width are taken in float32 in blocks of 256 (float64 for float64), the sums of a row merged in float64; see
        ERROR_BOUNDS. lse - target >= 0 always. NaN in a row gives NaN in that row only (argmax and topk are
        then unspecified, -1 among them); with an infinite logit lse is its limit. Memory: 16 MiB and O(rows). Online sums: Milakov and Gimelshein 2018
        (arXiv:1805.02867), algorithm 3. On CUDA logits are multiplied by torch in tiles of `workspace` bytes, its settings for TF32 and reduced
        precision included, and the host does not wait: a target that is no class gives NaN in its row. The same bits in every run.
    """
    names = _head.wanted_names("row_statistics", want)
    topk = integer("row_statistics", "topk", topk)
    if topk > 0 and "topk" not in names:
        names = (*names, "topk")
    parts = _head.wanted_parts("row_statistics", names, topk, targets is not None)
    compute: Any
    if is_torch(hidden):
        from ._torch import torch_statistics

        compute = torch_statistics
    else:
        from ._numpy import numpy_statistics

        compute = numpy_statistics
    found = compute(
        hidden,
        weight,
        targets,
        bias,
        parts=parts,
        topk=topk,
        map_and_cap=_head.map_name("row_statistics", softcap, logit_map),
        scale=scale if is_torch(hidden) and is_torch(scale) else _head.number("row_statistics", "scale", scale),
        ignore_index=int64("row_statistics", "ignore_index", ignore_index),
        filter_eps=filter_eps,
        workspace=_head.workspace_bytes("row_statistics", workspace, hidden),
        threads=thread_count("row_statistics", threads),
    )
    return RowStatistics(found, names)
