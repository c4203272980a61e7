"""Options as data, and the parser made from them.

An option is declared once, as an Option; the parser, `-h` (a screen), `--help` (everything) and the shell completions are
made from it. Options may stand before, between or after operands; behind `--` everything is an operand. argparse would
take longer to import than a search takes.
"""

from __future__ import annotations

import os

from ._messages import UsageError, display

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any


class Option:
    """One option of a verb.

    names: as typed, short first; metavar: name of its value, "" for a flag; help: one line; details: what `--help` adds;
    parse: text to value, raising UsageError; choices: legal values, for messages and completion.
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

    @property
    def attribute(self) -> str:
        """Its name among the Arguments."""
        return self.names[-1].lstrip("-").replace("-", "_")

    def value_of(self, text: str) -> Any:
        try:
            if self.choices and text not in self.choices:
                raise UsageError(f"{text!r} is not known; expected one of {', '.join(map(repr, self.choices))}")
            return self.parse(text)
        except UsageError as error:
            raise self.complaint(str(error)) from None

    def complaint(self, text: str) -> UsageError:
        return UsageError(f"{'/'.join(self.names)}: {text}")

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
        run: Callable[[Arguments], int],
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


class Arguments:
    """What a command line says.

    Attributes: operands, a list; help, "-h" or "--help" where that was asked for, else ""; and a value for each option of the verb under the
    name that its last name gives: that of --max-memory is max_memory.
    """

    operands: list[str]
    help: str = ""

    def __init__(self, options: Sequence[Option]) -> None:
        self.operands = []
        for option in options:
            setattr(self, option.attribute, option.default if option.metavar else False)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def parse(verb: Verb, words: Sequence[str]) -> Arguments:
    """The options and operands of a verb. Ends where help is asked for."""
    arguments = Arguments(verb.options)
    options = {name: option for option in verb.options for name in option.names}
    helps = {"--help"} if "-h" in options else {"-h", "--help"}
    left = iter(words)
    for word in left:
        if word == "--":
            arguments.operands += left
        elif word == "-" or not word.startswith("-"):
            arguments.operands.append(word)
        else:
            for name, value in _split(word, options):
                if name in helps and value is None:
                    arguments.help = name
                    return arguments
                if name in helps:
                    raise help_option(verb).complaint(f"takes no value, but has {value!r}")
                if name not in options:
                    raise UsageError(f"unknown option {display(name if word.startswith('--') else word)}{_hint(word, verb)}")
                option = options[name]
                setattr(arguments, option.attribute, _value(option, value, left))
    return arguments


def _split(word: str, options: dict[str, Option]) -> Iterator[tuple[str, str | None]]:
    """The options in a word, each with the value that stands beside it: --level=fast, -lfast, and -nC2 for -n -C2."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        yield name, value if equals else None
        return
    for at, letter in enumerate(word[1:], 2):
        name = "-" + letter
        if name in options and options[name].metavar:
            yield name, word[at:].removeprefix("=") if word[at:] else None
            return
        if word[at : at + 1] == "=":  # a value that none was asked for
            yield name, word[at + 1 :]
            return
        yield name, None


def _value(option: Option, beside: str | None, left: Iterator[str]) -> Any:
    if not option.metavar:
        if beside is not None:
            raise option.complaint(f"takes no value, but has {beside!r}")
        return True
    text = next(left, None) if beside is None else beside
    # A word that looks like an option is one: a value was forgotten. It may be a number, as in --lines -5:
    if text is None or (beside is None and text.startswith("-") and text != "-" and not text[1].isdigit()):
        raise option.complaint("expected one argument")
    return option.value_of(text)


def _hint(word: str, verb: Verb) -> str:
    """What an unknown option may have been meant for."""
    if os.path.lexists(word):
        return f"; the file of that name is {display(os.path.join(os.curdir, word))}"
    levels = next((option for option in verb.options if "--level" in option.names), None)
    if levels and word[1:].isdecimal():
        return f"; levels have names: {', '.join(f'-l {name}' for name in levels.choices)}"
    return similar(word, [name for option in (*verb.options, help_option(verb)) for name in option.names])


def help_option(verb: Verb) -> Option:
    """--help, and -h for a short one unless the verb means something else by it."""
    if any("-h" in option.names for option in verb.options):
        return Option(("--help",), "this help")
    return Option(("-h", "--help"), "this help: -h in short, --help in full")


def similar(word: str, known: Any) -> str:
    """ " (similar: ...)" for the known words that a mistyped one may have meant, or nothing."""
    from difflib import get_close_matches  # only a mistake pays for it

    found = get_close_matches(word.split("=")[0], list(known), n=3, cutoff=0.7)
    return f" (similar: {', '.join(found)})" if found else ""
