"""Sweeps over formats, seeds and learning rates: where does training with a number format stop being stable?

"To FP8 and Back Again" (Lee et al. 2024, arXiv 2405.18710) judges a format by how training behaves across seeds and learning rates, not by
one run. `sweep` runs a function of yours for every combination and keeps each run's losses and sharpness; the result prints as a table,
draws itself, and knows the learning-rate sensitivity of Wortsman et al. (2024, arXiv 2309.14322).

>>> from slipstick.lowbit.studies import mask_mantissa
>>> def descend(format, seed, learning_rate):  # gradient descent on x^2 / 2 with gradients cut to the mantissa bits of the format
...     x = np.float32(1 + seed)
...     for step in range(20):
...         yield float(x * x / 2)
...         x = x - np.float32(learning_rate) * mask_mantissa(x, format)
>>> result = sweep(descend, formats=[23, 1], seeds=[0, 1], learning_rates=[0.1, 0.5, 2.5], progress=False)
>>> print(result.table())
format  learning rate  runs  diverged  final loss (median)  lowest    highest   largest sharpness
23      0.1            2     0         0.0255               0.0102    0.0408    -
23      0.5            2     0         1.14e-11             4.55e-12  1.82e-11  -
23      2.5            2     2         -                    -         -         -
1       0.1            2     0         0.0455               0.0182    0.0729    -
1       0.5            2     0         1.14e-11             4.55e-12  1.82e-11  -
1       2.5            2     2         -                    -         -         -
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

__all__ = ["Run", "Sweep", "learning_rate_sensitivity", "sweep"]


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        format, seed, learning_rate: as given to `sweep`.
        losses, sharpness: (steps,) float64, as reported; sharpness is NaN where the run reported none.
        diverged: whether the run counts as diverged, see `sweep`.
        seconds: wall-clock time.
    """

    format: Any
    seed: int
    learning_rate: float
    losses: NDArray[np.float64] = field(repr=False)
    sharpness: NDArray[np.float64] = field(repr=False)
    diverged: bool
    seconds: float

    @property
    def final_loss(self) -> float:
        """Mean of the last tenth of the losses, of at least one; NaN or infinity where one of them is."""
        return float(np.mean(self.losses[-max(1, len(self.losses) // 10) :]))


def sweep(
    model_fn: Callable[..., Iterable[Any]],
    formats: Iterable[Any],
    seeds: Iterable[int],
    learning_rates: Iterable[float],
    *,
    loss_limit: float | None = None,
    progress: bool | Callable[[int, int, Run], None] | None = None,
) -> Sweep:
    """Runs model_fn for every format, learning rate and seed, in this order, and records loss, divergence and sharpness.

    Args:
        model_fn: called as model_fn(format=..., seed=..., learning_rate=...); gives an iterable, best a generator, of one report a step:
            a loss, or a pair of loss and sharpness (of `logit_sharpness`, say; None where not measured).
        formats: anything that model_fn understands: names, lowbit formats, numbers of bits.
        seeds, learning_rates: whole numbers; positive numbers.
        loss_limit: a loss above it is divergence, and ends the run.
        progress: True prints a bar to stderr, None only if that is a terminal; a function is called as progress(done, total, run) after
            every run and may save it.
    Returns:
        The runs and what follows from them.
    Raises:
        TypeError: a report that is neither a number nor a pair, or an argument of another kind.
        ValueError: nothing to run, a learning rate or limit out of range, or a run without reports.
        Whatever model_fn raises.
    Notes:
        A run is diverged, and not continued, from the first loss that is NaN, infinite or above loss_limit; and it is diverged if its final
        loss (mean of the last tenth) is not below its first loss. The paper's own criterion is not known to us.

    >>> result = sweep(lambda format, seed, learning_rate: [(1.0, 2.0), (0.5, 3.0)], ["e4m3"], [0], [0.1], progress=False)
    >>> result.runs[0].final_loss, result.runs[0].sharpness
    (0.5, array([2., 3.]))
    """
    where = "sweep"
    if not callable(model_fn):
        raise TypeError(f"{where}: model_fn is {model_fn!r}; expected a function")
    if isinstance(formats, str):
        raise TypeError(f"{where}: formats is {formats!r}; expected several, as in [{formats!r}]")
    kinds = list(formats)
    numbers = [_checks.integer(where, "seeds", seed, 0) for seed in seeds]
    rates = [_checks.real(where, "learning_rates", rate, above=0) for rate in learning_rates]
    for name, values in (("formats", kinds), ("seeds", numbers), ("learning_rates", rates)):
        if not values:
            raise ValueError(f"{where}: {name} is empty; expected at least one")
    limit = math.inf if loss_limit is None else _checks.real(where, "loss_limit", loss_limit)
    report = _reporter(progress)
    runs: list[Run] = []
    total = len(kinds) * len(rates) * len(numbers)
    for kind in kinds:
        for rate in rates:
            for seed in numbers:
                runs.append(_run(where, model_fn, kind, seed, rate, limit))
                report(len(runs), total, runs[-1])
    return Sweep(tuple(runs))


def _run(where: str, model_fn: Callable[..., Iterable[Any]], kind: Any, seed: int, rate: float, limit: float) -> Run:
    begin = time.monotonic()
    losses: list[float] = []
    sharpness: list[float] = []
    steps = model_fn(format=kind, seed=seed, learning_rate=rate)
    diverged = False
    for step in steps:
        loss, sharp = step if isinstance(step, (tuple, list)) and len(step) == 2 else (step, None)
        try:
            losses.append(_number(loss))
            sharpness.append(math.nan if sharp is None else _number(sharp))
        except (TypeError, ValueError):
            raise TypeError(f"{where}: model_fn reported {step!r}; expected a loss, or a pair of loss and sharpness") from None
        if not losses[-1] <= limit or math.isinf(losses[-1]):
            diverged = True
            break
    if not losses:
        raise ValueError(
            f"{where}: model_fn reported nothing for format {kind!r}, seed {seed}, learning rate {rate:g}; expected a loss a step"
        )
    run = Run(kind, seed, rate, np.array(losses), np.array(sharpness), diverged, time.monotonic() - begin)
    if not diverged and len(losses) > 1 and not run.final_loss < losses[0]:
        run = Run(kind, seed, rate, run.losses, run.sharpness, True, run.seconds)
    if diverged and hasattr(steps, "close"):
        steps.close()  # a generator that is not read to its end frees its model now
    return run


def _number(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)  # of torch: a loss that still wants its gradient warns otherwise


def _reporter(progress: bool | Callable[[int, int, Run], None] | None) -> Callable[[int, int, Run], None]:
    if callable(progress):
        return progress
    if progress or (progress is None and sys.stderr.isatty()):
        return _bar
    return lambda done, total, run: None


def _bar(done: int, total: int, run: Run) -> None:
    width = 30
    filled = width * done // total
    outcome = "diverged" if run.diverged else f"loss {run.final_loss:.4g}"
    line = (
        f"[{'#' * filled}{'.' * (width - filled)}] {done}/{total} {_name(run.format)} rate {run.learning_rate:g} seed {run.seed}: {outcome}"
    )
    if sys.stderr.isatty():
        print(f"\r{line}\x1b[K", end="\n" if done == total else "", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Sweep:
    """The runs of `sweep`, in its order."""

    runs: tuple[Run, ...]

    @property
    def formats(self) -> list[Any]:
        """The formats, in the order of the sweep."""
        return _unique(run.format for run in self.runs)

    @property
    def learning_rates(self) -> list[float]:
        """The learning rates, ascending."""
        return sorted({run.learning_rate for run in self.runs})

    def select(self, *, format: Any = ..., learning_rate: float | None = None) -> list[Run]:
        """The runs of a format, of a learning_rate, or of both; ... stands for any format, since None can be one.

        >>> sweep(lambda **of: [1.0, 0.5], ["a", "b"], [0, 1], [0.1], progress=False).select(format="b")[0].format
        'b'
        """
        return [
            run
            for run in self.runs
            if (format is ... or run.format is format or run.format == format)
            and (learning_rate is None or run.learning_rate == learning_rate)
        ]

    def divergence_rate(self, format: Any) -> float:
        """Share of the runs of a format that diverged; NaN where there are none.

        >>> sweep(lambda seed, **of: [1.0, seed], ["a"], [0, 2], [0.1], progress=False).divergence_rate("a")
        0.5
        """
        runs = self.select(format=format)
        return sum(run.diverged for run in runs) / len(runs) if runs else math.nan

    def sensitivity(self, format: Any, initial_loss: float | None = None) -> float:
        """`learning_rate_sensitivity` of a format: the mean final loss over seeds at every rate; a rate at which a run diverged counts as
        initial_loss, by default the mean of the first losses.

        Raises:
            TypeError, ValueError: there is no run of that format, or as `learning_rate_sensitivity`.

        >>> fake = lambda learning_rate, **of: [10.0, {1.0: 3.0, 2.0: 2.5, 3.0: 9.0, 4.0: np.inf}[learning_rate]]
        >>> sweep(fake, ["a"], [0], [1, 2, 3, 4], progress=False).sensitivity("a")
        3.625
        """
        runs = self.select(format=format)
        if not runs:
            raise ValueError(f"sensitivity: format is {format!r}; expected one of {self.formats}")
        start = float(np.mean([run.losses[0] for run in runs])) if initial_loss is None else initial_loss
        rates = sorted({run.learning_rate for run in runs})
        groups = [[run for run in runs if run.learning_rate == rate] for rate in rates]
        losses = [math.inf if any(run.diverged for run in group) else float(np.mean([run.final_loss for run in group])) for group in groups]
        return learning_rate_sensitivity(losses, start)

    def table(self, *, markdown: bool = False) -> str:
        """A line for each format and learning rate: runs, diverged ones, final losses of the others, largest sharpness of all.

        >>> print(sweep(lambda **of: [1.0, 0.5], ["a"], [0], [0.1], progress=False).table(markdown=True))
        | format | learning rate | runs | diverged | final loss (median) | lowest | highest | largest sharpness |
        | --- | --- | --- | --- | --- | --- | --- | --- |
        | a | 0.1 | 1 | 0 | 0.5 | 0.5 | 0.5 | - |
        """
        rows = [["format", "learning rate", "runs", "diverged", "final loss (median)", "lowest", "highest", "largest sharpness"]]
        for kind in self.formats:
            for rate in sorted({run.learning_rate for run in self.select(format=kind)}):
                rows.append(_line(self.select(format=kind, learning_rate=rate)))
        if markdown:
            rows.insert(1, ["---"] * len(rows[0]))
            return "\n".join(f"| {' | '.join(row)} |" for row in rows)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)

    def plot(self, axes: Sequence[Any] | None = None) -> Sequence[Any]:
        """Draws final losses, the share of diverged runs and the largest sharpness against the learning rate, a line a format.

        Args:
            axes: three matplotlib axes; default a new figure with three, for which matplotlib is imported.
        Returns:
            The three axes.
        Raises:
            ImportError: matplotlib is not installed and no axes are given.
            ValueError: other than three axes.
        Notes:
            Losses and sharpness are medians over the runs that did not diverge, and over all runs.

        >>> sweep(lambda **of: [1.0, 0.5], ["a"], [0], [0.1], progress=False).plot(axes=[])
        Traceback (most recent call last):
        ValueError: plot: axes holds 0; expected three
        """
        if axes is None:
            try:
                pyplot = importlib.import_module("matplotlib.pyplot")
            except ImportError as error:
                raise ImportError("plot: matplotlib is not installed; pip install matplotlib, or print table()") from error
            axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")[1]
        if len(axes) != 3:
            raise ValueError(f"plot: axes holds {len(axes)}; expected three")
        for kind in self.formats:
            rates = sorted({run.learning_rate for run in self.select(format=kind)})
            groups = [self.select(format=kind, learning_rate=rate) for rate in rates]
            lines = (
                [_median([run.final_loss for run in group if not run.diverged]) for group in groups],
                [sum(run.diverged for run in group) / len(group) for group in groups],
                [_median([_largest(run.sharpness) for run in group]) for group in groups],
            )
            for axis, values in zip(axes, lines):
                axis.plot(rates, values, marker="o", label=_name(kind))
        for axis, title in zip(axes, ("final loss", "share of runs that diverged", "largest sharpness")):
            axis.set_xscale("log")
            axis.set_xlabel("learning rate")
            axis.set_title(title)
        axes[0].legend()
        return axes


def _line(runs: list[Run]) -> list[str]:
    losses = [run.final_loss for run in runs if not run.diverged]
    cells = [f"{value:.3g}" for value in (_median(losses), min(losses), max(losses))] if losses else ["-"] * 3
    sharp = _largest(np.concatenate([run.sharpness for run in runs]))
    diverged = sum(run.diverged for run in runs)
    return [
        _name(runs[0].format),
        f"{runs[0].learning_rate:g}",
        str(len(runs)),
        str(diverged),
        *cells,
        "-" if math.isnan(sharp) else f"{sharp:.3g}",
    ]


def _name(kind: Any) -> str:
    name = getattr(kind, "name", None)
    return name if isinstance(name, str) and name else str(kind)


def _largest(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.max()) if present.size else math.nan


def _median(values: list[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return float(np.median(present)) if present else math.nan


def _unique(values: Iterable[Any]) -> list[Any]:
    result: list[Any] = []
    for value in values:
        if not any(value is other or value == other for other in result):
            result.append(value)
    return result


def learning_rate_sensitivity(losses: ArrayLike, initial_loss: float) -> float:
    """How much is lost on average by not knowing the best learning rate (Wortsman et al. 2024, arXiv 2309.14322, section 2.2).

    Args:
        losses: (rates,), final losses over learning rates that are equally spaced on a logarithmic scale; NaN and infinity are runs that
            diverged.
        initial_loss: loss at initialisation, finite; a run counts as this at most.
    Returns:
        Mean of min(loss, initial_loss), less the smallest of them; 0 where all rates are equally good.
    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: losses is empty or no vector, or initial_loss is not finite.

    >>> learning_rate_sensitivity([3.0, 2.5, 9.0, float("inf")], initial_loss=10.0)
    3.625
    """
    where = "learning_rate_sensitivity"
    values = _checks.array(where, "losses", losses, dimensions=1, finite=False)
    start = _checks.real(where, "initial_loss", initial_loss)
    capped = np.fmin(np.where(np.isneginf(values), np.nan, values), start)
    return float(np.mean(capped - capped.min()))
