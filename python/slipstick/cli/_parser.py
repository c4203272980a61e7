"""Options as data, and a thin parser over them.

An option is declared once, as an Option; the parser, `-h` (a screen), `--help` (everything) and the shell completions are
made from it. argparse does the splitting; operands are taken here, so that options may stand before, between or after
them on every Python version, and so is `--`, after which everything is an operand.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence

from ._messages import UsageError, display, line_width, say

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any, NoReturn

HELP_WIDTH = 80
HELP_COLUMN = 26
NARROW_HELP_COLUMN = 6  # below the names, where the terminal leaves too little beside them
LEAST_BESIDE = 38


class Option:
    """One option of a verb.

    names: as typed, short first; metavar: name of its value, "" for a flag; help: one line; details: what `--help` adds;
    parse: text to value, raising argparse.ArgumentTypeError; choices: legal values, for messages and completion.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        help: str,
        details: str = "",
        metavar: str = "",
        default: Any = None,
        parse: Callable[[str], Any] = str,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.names = names
        self.help = help
        self.details = details
        self.metavar = metavar
        self.default = default
        self.parse = parse
        self.choices = choices

    def replaced(self, **changes: Any) -> Option:
        """The same option but for these attributes."""
        return Option(**{**vars(self), **changes})


class Verb:
    """A verb of the command line: everything its help says, and run(arguments), which returns the exit status.

    operands: usage lines after "slipstick VERB [OPTIONS]"; operand_choices: legal operands, () where they are files.
    """

    def __init__(
        self,
        name: str,
        operands: tuple[str, ...],
        description: str,
        options: tuple[Option, ...],
        examples: str,
        run: Callable[[argparse.Namespace], int],
        operand_choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.operands = operands
        self.description = description
        self.options = options
        self.examples = examples
        self.run = run
        self.operand_choices = operand_choices

    @property
    def reads_archives(self) -> bool:
        return "FILE.slip" in self.operands[0]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def _get_formatter(self) -> argparse.HelpFormatter:
        return argparse.HelpFormatter(self.prog, width=HELP_WIDTH)  # without a width it imports shutil to ask the terminal


def parse(verb: Verb, words: Sequence[str]) -> argparse.Namespace:
    """The options of a verb, with its operands in `.operands`. Prints help and exits when that is asked for."""
    words = list(words)
    cut = words.index("--") if "--" in words else len(words)
    parser = _make_parser(verb)
    arguments, rest = parser.parse_known_args(_with_negative_values(verb, words[:cut]))
    for word in rest:
        if word.startswith("-") and word != "-":
            raise UsageError(f"unknown option {display(word.split('=')[0])}{_hint(word, verb, parser)}")
    arguments.operands = rest + words[cut + 1 :]
    return arguments


def _hint(word: str, verb: Verb, parser: argparse.ArgumentParser) -> str:
    """What an unknown option may have been meant for."""
    if os.path.lexists(word):
        return f"; the file of that name is {display(os.path.join(os.curdir, word))}"
    levels = next((option for option in verb.options if "--level" in option.names), None)
    if levels and word[1:].isdecimal():
        return f"; levels have names: {', '.join(f'-l {name}' for name in levels.choices)}"
    return similar(word, parser._option_string_actions)


def _with_negative_values(verb: Verb, words: Sequence[str]) -> list[str]:
    """The words, each long option joined to a value such as -5:, which argparse would take for an option."""
    valued = {name for option in verb.options if option.metavar for name in option.names if name.startswith("--")}
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in valued and word[:1] == "-" and word[1:2].isdigit():
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


def _make_parser(verb: Verb) -> _Parser:
    parser = _Parser(prog=f"slipstick {verb.name}", add_help=False, allow_abbrev=False)
    for option in verb.options:
        _add(parser, option)
    if "-h" in help_option(verb).names:
        parser.add_argument("-h", action=_Help, nargs=0, dest="help", default=argparse.SUPPRESS, verb=verb, full=False)
    parser.add_argument("--help", action=_Help, nargs=0, dest="help", default=argparse.SUPPRESS, verb=verb, full=True)
    return parser


def _add(parser: _Parser, option: Option) -> None:
    dest = option.names[-1].lstrip("-").replace("-", "_")
    if not option.metavar:
        parser.add_argument(*option.names, dest=dest, action="store_true")
    else:
        parser.add_argument(*option.names, dest=dest, metavar=option.metavar, default=option.default, type=_parse(option))


def _parse(option: Option) -> Callable[[str], Any]:
    def parse_choice(text: str) -> Any:
        if option.choices and text not in option.choices:
            expected = ", ".join(repr(choice) for choice in option.choices)
            raise argparse.ArgumentTypeError(f"{text!r} is not known; expected one of {expected}")
        return option.parse(text)

    return parse_choice


class _Help(argparse.Action):
    def __init__(self, *, verb: Verb, full: bool, **rest: Any) -> None:
        super().__init__(**rest)
        self._verb, self._full = verb, full

    def __call__(self, parser: Any, *rest: Any) -> None:
        say(format_help(self._verb, full=self._full))
        parser.exit(0)


def help_option(verb: Verb) -> Option:
    """--help, and -h for a short one unless the verb means something else by it."""
    if any("-h" in option.names for option in verb.options):
        return Option(("--help",), "this help")
    return Option(("-h", "--help"), "this help: -h in short, --help in full")


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


def fold(text: str, width: int, indent: str = "") -> str:
    """A paragraph in lines of at most width characters, each ended; words such as --after stay whole."""
    from textwrap import fill

    return fill(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) + "\n"


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.strip().split("\n"))


def similar(word: str, known: Any) -> str:
    """ " (similar: ...)" for the known words that a mistyped one may have meant, or nothing."""
    from difflib import get_close_matches  # only a mistake pays for it

    found = get_close_matches(word.split("=")[0], list(known), n=3, cutoff=0.7)
    return f" (similar: {', '.join(found)})" if found else ""
