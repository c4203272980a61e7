"""What the losses of the family share: labels that count, their statistics, and reductions over rows.

Every loss is a function of a few numbers a row, written once for tensors and NumPy arrays, see _arrays.py. Rows whose label is ignored
take part with a harmless value instead of being cut out, so that shapes depend on no data, and get no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipstick._arguments import int64, is_torch

from ._arrays import Array, astype, dtype_name, has_tensor, library, where, whole_numbers, wide
from ._head import call_as
from ._head import check_flag as check_flag
from ._head import check_number as check_number
from ._numpy import plain_array
from ._statistics import RowStatistics, row_statistics

if TYPE_CHECKING:
    from typing import TypedDict

    class Streaming(TypedDict, total=False):
        """How the logits are streamed; each is an argument of row_statistics and means what it means there."""

        softcap: float | None
        scale: Any
        filter_eps: float | str | None
        workspace: int | None
        threads: int | None


REDUCTIONS = ("mean", "sum", "none")
HARMLESS_LOG_PROB = -1.0  # of ignored rows: neither 0 nor -inf, where derivatives of losses may be infinite


class Rows:
    """Labels in flat rows, and the streamed statistics of their logits."""

    def __init__(
        self,
        name: str,
        hidden: Array,
        weight: Array,
        targets: Array | None,
        want: tuple[str, ...],
        *,
        bias: Array | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        prefix: str = "",
        **streaming: Any,
    ) -> None:
        """prefix: see call_as."""
        check_reduction(name, reduction)
        ignore_index = int64(name, "ignore_index", ignore_index)
        hidden, weight, targets = check_head(name, hidden, weight, targets, bias, (prefix + "hidden", prefix + "weight"))
        self.shape = hidden.shape[:-1]
        self.reduction = reduction
        self.classes = weight.shape[0]
        self.dtype = wide(hidden)
        labels = None if targets is None else targets.reshape(-1)
        self.counts = None if labels is None else labels != ignore_index
        self.statistics: RowStatistics = call_as(
            name,
            "row_statistics",
            row_statistics,
            hidden.reshape(-1, hidden.shape[-1]),
            weight,
            labels,
            bias=bias,
            want=want,
            ignore_index=ignore_index,
            prefix=prefix,
            **streaming,
        )

    def of(self, name: str, ignored: float = 0.0) -> Array:
        """The statistic of that name, `ignored` in the rows that do not count."""
        return self.where_counted(getattr(self.statistics, name), ignored)

    def log_prob(self) -> Array:
        """log p of the label."""
        return self.where_counted(self.statistics.target - self.statistics.lse, HARMLESS_LOG_PROB)

    def where_counted(self, values: Array, ignored: float = 0.0) -> Array:
        return values if self.counts is None else where(self.counts, values, ignored)

    def reduce(self, losses: Array) -> Array:
        counts = None if self.counts is None else self.counts.reshape(self.shape)
        return reduce_losses(losses.reshape(self.shape), counts, self.reduction, self.dtype)


def reduce_losses(losses: Array, counts: Array | None, reduction: str, dtype: Any = None) -> Array:
    """Mean over the rows that count (NaN where none does, as in torch), sum, or the losses with 0 in ignored rows.

    dtype: what NumPy arrays are brought to, as NumPy widens them where a parameter is a NumPy number.
    """
    if dtype is not None and not is_torch(losses):
        losses = astype(losses, dtype)
    if counts is not None:
        losses = where(counts, losses)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if counts is None:
        return losses.mean() if is_torch(losses) or losses.size else losses.dtype.type("nan")
    return losses.sum() / astype(counts.sum(), losses.dtype)


def check_reduction(name: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    check_choice(name, "reduction", reduction, allowed)


def check_choice(name: str, argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: {argument} is {value!r}; expected one of {str(allowed)[1:-1]}")


def check_head(
    name: str,
    hidden: Array,
    weight: Array,
    targets: Array | None,
    beside: Array | None = None,
    names: tuple[str, str] = ("hidden", "weight"),
    argument: str = "targets",
) -> tuple[Array, Array, Array]:
    """hidden, weight and targets as they are where one of them, or what is `beside` them, is a tensor, and then they must be; else as NumPy
    arrays, targets of int64.

    Raises where the shapes of a head and its labels do not fit, leading dimensions of any number. What row_statistics checks is left to it.
    """
    tensors = has_tensor(hidden, weight, targets, beside)
    if tensors:
        for each, value in zip(names, (hidden, weight)):
            if not is_torch(value):
                raise TypeError(f"{name}: {each} is a {type(value).__name__}; expected a torch.Tensor")
    else:
        hidden, weight = (plain_array(name, each, value) for each, value in zip(names, (hidden, weight)))
    if hidden.ndim < 1 or weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{name}: {names[0]} has shape {tuple(hidden.shape)} and {names[1]} {tuple(weight.shape)}; expected (..., D) and (V, D)"
        )
    if targets is None:
        return hidden, weight, None
    if tensors and (not is_torch(targets) or dtype_name(targets) != "int64"):
        raise TypeError(f"{name}: {argument} is {_kind(targets)}; expected a torch.Tensor of int64")
    targets = whole_numbers(name, argument, targets)
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"{name}: {argument} has shape {tuple(targets.shape)}; expected {tuple(hidden.shape[:-1])}, as {names[0]} has rows"
        )
    return hidden, weight, targets


def check_same_shape(name: str, first: str, shape: tuple[int, ...], **others: Array | None) -> None:
    for argument, value in others.items():
        if value is not None and value.shape != shape:
            raise ValueError(f"{name}: {argument} has shape {tuple(value.shape)}; expected that of {first}, {tuple(shape)}")


def log1m_exp(x: Array) -> Array:
    """log(1 - e^x) for x < 0 (Maechler 2012, "Accurately computing log(1 - exp(-|a|))", eq. 7).

    0, and what rounding put above it, is read as the largest negative number, with gradient 0, so that the value stays finite.
    """
    xp = library(x)
    x = xp.clip(x, None, -float(xp.finfo(x.dtype).tiny))
    near_zero = x > -0.6931471805599453
    log_of_expm1 = xp.log(-xp.expm1(xp.where(near_zero, x, -1.0)))
    log1p_of_exp = xp.log1p(-xp.exp(xp.where(near_zero, -1.0, x)))
    return xp.where(near_zero, log_of_expm1, log1p_of_exp)


def _kind(value: object) -> str:
    return f"a torch.Tensor of {dtype_name(value)}" if is_torch(value) else f"a {type(value).__name__}"
