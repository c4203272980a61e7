"""What a demonstration says: a few sentences around a small table, in lines that fit a narrow terminal."""

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
        command: what to type to do the same with one's own data; a long one is broken into lines where Python allows it.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    meaning: str
    command: str

    def text(self, width: int = WIDTH) -> str:
        """The report in lines of at most width characters, at least 40, without any control codes."""
        from textwrap import indent, wrap

        title, meaning = (wrap(text, width, break_on_hyphens=False) for text in (self.title, self.meaning))  # names of files stay whole
        return "\n".join([*title, "", *self._table(width), "", *meaning, "", indent(self.command, "  "), ""])

    def _table(self, width: int) -> list[str]:
        """Lines of names and figures; names stand on lines of their own where both do not fit beside each other."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows)]
        beside = sum(widths) + 2 * len(widths) <= width
        lines = []
        for cells in (self.head, *self.rows):
            figures = "  ".join(cell.rjust(wide) for cell, wide in zip(cells[1:], widths[1:]))
            if beside:
                lines.append(f"  {cells[0].ljust(widths[0])}  {figures}".rstrip())
            else:
                lines += [f"  {cells[0]}"] * bool(cells[0]) + [f"    {figures}"]
        return lines


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
