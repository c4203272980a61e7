"""What the losses of the family share: labels that count, their statistics, and reductions over rows.

Every loss is a torch function of a few numbers a row. Rows whose label is ignored take part with a harmless value instead of being
cut out, so that shapes depend on no data, and get no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ._head import check_number as check_number
from ._operators import call_as
from ._statistics import RowStatistics, row_statistics

if TYPE_CHECKING:
    from typing import TypedDict

    class Streaming(TypedDict, total=False):
        """How the logits are streamed; each is an argument of row_statistics and means what it means there."""

        softcap: float | None
        scale: float | torch.Tensor
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
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor | None,
        want: tuple[str, ...],
        *,
        bias: torch.Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        **streaming: Any,
    ) -> None:
        check_reduction(name, reduction)
        check_head(name, hidden, weight, targets)
        self.shape = hidden.shape[:-1]
        self.reduction = reduction
        self.classes = weight.shape[0]
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
            **streaming,
        )

    def of(self, name: str, ignored: float = 0.0) -> torch.Tensor:
        """The statistic of that name, `ignored` in the rows that do not count."""
        return self.where_counted(getattr(self.statistics, name), ignored)

    def log_prob(self) -> torch.Tensor:
        """log p of the label."""
        return self.where_counted(self.statistics.target - self.statistics.lse, HARMLESS_LOG_PROB)

    def where_counted(self, values: torch.Tensor, ignored: float = 0.0) -> torch.Tensor:
        return values if self.counts is None else torch.where(self.counts, values, ignored)

    def reduce(self, losses: torch.Tensor) -> torch.Tensor:
        return reduce_losses(losses.reshape(self.shape), None if self.counts is None else self.counts.reshape(self.shape), self.reduction)


def reduce_losses(losses: torch.Tensor, counts: torch.Tensor | None, reduction: str) -> torch.Tensor:
    """Mean over the rows that count (NaN where none does, as in torch), sum, or the losses with 0 in ignored rows."""
    if counts is not None:
        losses = torch.where(counts, losses, 0.0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return losses.mean() if counts is None else losses.sum() / counts.sum()


def check_reduction(name: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    check_choice(name, "reduction", reduction, allowed)


def check_choice(name: str, argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {argument} is {value!r}; expected one of {str(allowed)[1:-1]}")


def check_head(
    name: str,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor | None,
    hidden_name: str = "hidden",
    weight_name: str = "weight",
) -> None:
    """Shapes of a head and its labels, leading dimensions of any number. What row_statistics checks is left to it."""
    for argument, value in ((hidden_name, hidden), (weight_name, weight)):
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{name}: {argument} is a {type(value).__name__}; expected a torch.Tensor")
    if hidden.ndim < 1 or weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{name}: {hidden_name} has shape {tuple(hidden.shape)} and {weight_name} {tuple(weight.shape)}; expected (..., D) and (V, D)"
        )
    if targets is None:
        return
    if not isinstance(targets, torch.Tensor) or targets.dtype != torch.int64:
        raise TypeError(f"{name}: targets is {_kind(targets)}; expected a torch.Tensor of int64")
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"{name}: targets has shape {tuple(targets.shape)}; expected {tuple(hidden.shape[:-1])}, as {hidden_name} has rows"
        )


def check_same_shape(name: str, first: str, shape: torch.Size, **others: torch.Tensor | None) -> None:
    for argument, value in others.items():
        if value is not None and value.shape != shape:
            raise ValueError(f"{name}: {argument} has shape {tuple(value.shape)}; expected that of {first}, {tuple(shape)}")


def log1m_exp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - e^x) for x < 0 (Maechler 2012, "Accurately computing log(1 - exp(-|a|))", eq. 7).

    0, and what rounding put above it, is read as the largest negative number, with gradient 0, so that the value stays finite.
    """
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near_zero = x > -0.6931471805599453
    log_of_expm1 = torch.log(-torch.expm1(torch.where(near_zero, x, -1.0)))
    log1p_of_exp = torch.log1p(-torch.exp(torch.where(near_zero, -1.0, x)))
    return torch.where(near_zero, log_of_expm1, log1p_of_exp)


def _kind(value: object) -> str:
    return f"a torch.Tensor of {str(value.dtype)[6:]}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
