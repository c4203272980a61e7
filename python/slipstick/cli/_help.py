"""The help of the command and of its verbs, folded to the terminal."""

from __future__ import annotations

from ._messages import fold, line_width
from ._parser import Option, Verb, help_option

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Sequence

HELP_WIDTH = 80
HELP_COLUMN = 26
NARROW_HELP_COLUMN = 6  # below the names, where the terminal leaves too little beside them
LEAST_BESIDE = 38


def format_help(verb: Verb, *, full: bool) -> str:
    """The help of a verb, folded to the terminal, but for usage and examples: they are there to be copied."""
    width = line_width(HELP_WIDTH)
    usage = [f"slipstick {verb.name} [OPTIONS] {operands}".rstrip() for operands in verb.operands]
    parts = ["usage: " + "\n       ".join(usage) + "\n"]
    summary, _, details = verb.description.strip().partition("\n\n")
    parts += [fold(paragraph, width) for paragraph in (summary, details if full else "") if paragraph]
    options = (*verb.options, help_option(verb))
    parts.append("options:\n" + "".join(_format_option(option, full, width) for option in options))
    if full:
        parts.append("examples:\n" + _indent(verb.examples))
    return "\n".join(parts)


def _format_option(option: Option, full: bool, width: int) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    help = option.help
    if option.choices:
        help += ": " + ", ".join(option.choices)
    if option.metavar and option.default is not None:
        help += f" (default: {option.default})"
    return entry(", ".join(option.names) + value, (help, option.details if full else ""), width)


def entry(names: str, paragraphs: Sequence[str], width: int) -> str:
    """Names with what is to be said of them beside them, or below, on lines of at most width characters."""
    column = HELP_COLUMN if width >= HELP_COLUMN + LEAST_BESIDE else NARROW_HELP_COLUMN
    text = "".join(fold(paragraph, width, indent=" " * column) for paragraph in paragraphs if paragraph)
    names = f"  {names}"
    return names + text[len(names) :] if len(names) <= column - 2 else f"{names}\n{text}"


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.strip().split("\n"))
