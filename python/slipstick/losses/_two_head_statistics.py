"""Statistics of two heads over the same rows and classes, a number a row, from one streamed pass over both weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from slipstick._arguments import int64, is_torch, thread_count

from . import _head

__all__ = ["TwoHeadStatistics", "two_head_statistics"]

NAMES = ("second_hidden", "second_weight")
# What the core computes in a pass, by its own names.
DIVERGENCES = {
    "kl": ("forward_kl", "reverse_kl", "lse", "second_lse"),
    "jensen_shannon": ("jensen_shannon",),
    "binary_kl": ("binary_kl",),
    "binary_kl_norm": ("binary_kl_norm",),
}
COMBINED = ("combined_target", "combined_lse")


class TwoHeadStatistics(NamedTuple):
    """What two_head_statistics returns, (rows,) each, None where not wanted. z are the first head's logits, w the second's, p and q their
    softmaxes.

    forward_kl: KL(q || p). reverse_kl: KL(p || q). lse, second_lse: log-sum-exp of z and of w. jensen_shannon: b KL(q || m) +
    (1 - b) KL(p || m), m = b q + (1 - b) p, b the mixture. binary_kl: sum_j KL(Bernoulli(s(w_j)) || Bernoulli(s(z_j))), s the sigmoid.
    binary_kl_norm: sum_j KL(Bernoulli(1/2) || Bernoulli(s(z_j - w_j))). combined_target, combined_lse: of z + coefficient w.
    """

    forward_kl: Any = None
    reverse_kl: Any = None
    lse: Any = None
    second_lse: Any = None
    jensen_shannon: Any = None
    binary_kl: Any = None
    binary_kl_norm: Any = None
    combined_target: Any = None
    combined_lse: Any = None


def two_head_statistics(
    hidden: Any,
    weight: Any,
    second_hidden: Any,
    second_weight: Any,
    targets: Any = None,
    *,
    want: Iterable[str] = ("forward_kl", "reverse_kl"),
    bias: Any = None,
    second_bias: Any = None,
    mixture: float = 0.5,
    coefficient: float = -1.0,
    threshold: float | None = None,
    kept_share: float = 0.1,
    softcap: float | None = None,
    scale: float = 1.0,
    ignore_index: int = -100,
    workspace: int | None = None,
    threads: int | None = None,
) -> TwoHeadStatistics:
    """Divergences of two heads' softmaxes, and statistics of one head's logits added to the other's, without either's logits in memory.

    Any differentiable function of them is a loss of both heads, as in row_statistics.

    Args:
        hidden, weight, bias: the first head: (rows, D) and (V, D) torch tensors or NumPy arrays, (V,) or None.
        second_hidden, second_weight, second_bias: the second: (rows, E), (V, E), (V,) or None. Of NumPy arrays both or none are float64;
            tensors of mixed precision are widened.
        targets: (rows,) int64 or None: which rows count, and the class of combined_target.
        want: some of the names of TwoHeadStatistics. The two divergences and both log-sum-exps take one pass together, each other
            divergence one (jensen_shannon two), and both combined ones one.
        mixture: b, between 0 and 1.
        coefficient, threshold, kept_share: of the combined logits, see logit_difference_cross_entropy. threshold None: no filter.
        softcap, scale, ignore_index, workspace, threads: see row_statistics; of both heads. scale is a number.
    Returns:
        TwoHeadStatistics, in float64 for float64 inputs, else in float32; 0 in rows to skip. Those of tensors are differentiable once.
    Raises:
        TypeError: dtypes differ or are none of row_statistics. IndexError: a target is no class. ValueError: shapes do not fit, a number
        is out of range, a name in want is unknown, combined_target is wanted without targets.
    Notes:
        Errors: see ERROR_BOUNDS; a divergence may be below 0 by as much, and is 0 for equal heads. Classes of probability below e^-87 count for nothing. A class that has the same infinite logit in
        both heads has difference 0; other infinite or NaN logits give infinity or NaN in their row only. No bit depends on threads. On CUDA see
        row_statistics; there a class whose logit is within rounding of what threshold and kept_share leave may fall on either side.
    """
    name = "two_head_statistics"
    wanted = check_wanted(name, want, targets)
    mixture = check_mixture(name, mixture)
    coefficient = check_combination(name, coefficient, threshold, kept_share)
    kinds = [kind for kind, names in DIVERGENCES.items() if set(names) & set(wanted)]
    compute: Any
    if is_torch(hidden):
        from ._two_heads import torch_two_heads

        compute = torch_two_heads
    else:
        from ._numpy import numpy_two_heads

        compute = numpy_two_heads
    found = compute(
        name,
        (hidden, weight, bias),
        (second_hidden, second_weight, second_bias),
        targets,
        kinds=kinds,
        mixture=mixture,
        combined=bool(set(COMBINED) & set(wanted)),
        coefficient=coefficient,
        threshold=threshold,
        kept_share=kept_share,
        softcap=softcap,
        scale=scale,
        ignore_index=int64(name, "ignore_index", ignore_index),
        workspace=workspace,
        threads=thread_count(name, threads),
    )
    return TwoHeadStatistics(**{each: found[each] for each in wanted})


def check_wanted(name: str, want: Iterable[str], targets: Any) -> tuple[str, ...]:
    wanted = _head.wanted_names(name, want)
    for each in wanted:
        if each not in TwoHeadStatistics._fields:
            raise ValueError(f"{name}: want holds {each!r}; expected some of {str(TwoHeadStatistics._fields)[1:-1]}")
    if "combined_target" in wanted and targets is None:
        raise ValueError(f"{name}: targets is None; expected (rows,) int64, as 'combined_target' is wanted")
    return wanted


def check_mixture(name: str, mixture: float) -> float:
    _head.check_number(name, "mixture", mixture, "a number between 0 and 1", lambda x: 0 < x < 1)
    return _head.number(name, "mixture", mixture)


def check_combination(name: str, coefficient: float, threshold: float | None, kept_share: float) -> float:
    """The coefficient."""
    _head.check_number(name, "coefficient", coefficient, "a finite number", lambda x: abs(x) < math.inf)
    if threshold is not None:
        _head.check_number(name, "threshold", threshold, "a number between 0 and 1", lambda x: 0 < x < 1)
    _head.check_number(name, "kept_share", kept_share, "a number from 0 to 1", lambda x: 0 <= x <= 1)
    return _head.number(name, "coefficient", coefficient)


def kept_classes(classes: int, kept_share: float) -> int:
    return max(1, int(kept_share * classes))
