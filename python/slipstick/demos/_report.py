"""What a demonstration says: a few sentences around a small table that fits a narrow terminal."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

WIDTH = 60

Result = TypeVar("Result")


class MissingError(Exception):
    """A package that a demonstration needs is not installed."""


@dataclasses.dataclass
class Report:
    """A demonstration's result.

    Attributes:
        title: what is done, on what data, one line.
        head, rows: the table; ours stand first.
        meaning: what the table shows, sentences.
        command: what to type to do the same with one's own data.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    meaning: str
    command: str

    def text(self) -> str:
        """The report in lines of at most WIDTH characters, without any control codes."""
        from textwrap import wrap

        widths = [max(map(len, column)) for column in zip(self.head, *self.rows)]
        lines = [
            "  " + "  ".join([cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))]).rstrip()
            for cells in (self.head, *self.rows)
        ]
        return "\n".join([*wrap(self.title, WIDTH), "", *lines, "", *wrap(self.meaning, WIDTH), "", f"  {self.command}", ""])


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What work returns, and the CPU seconds of this process that it took, in all threads."""
    begin = time.process_time()
    result = work()
    return result, time.process_time() - begin


def short(value: float) -> str:
    """Three digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def require(name: str, extra: str) -> Any:
    """The module of that name, or MissingError with the command that installs it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingError(f"needs {name}: pip install '{extra}'") from None
