"""The command `slipstick`: a thin layer over slipstick.logs.

Many commands take less time than Python's start. So a module of this package, and of slipstick.logs, imports at its top only what every use
of it needs, and types alone under TYPE_CHECKING; what one verb, one option or one error needs is imported where that is met.
tests/python/test_start.py has the list of what the usual commands import.
"""

from __future__ import annotations

import os
import sys

from . import _messages, _verbs

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Sequence

OVERVIEW = """\
usage: slipstick VERB [OPTIONS] FILE...

{purpose}
verbs:
{verbs}
options:
{options}
examples:
  slipstick compress app.log          pack app.log into app.log.slip
  slipstick cat app.log.slip | less   read it
  slipstick info app.log.slip         see what it took

{status}"""
PURPOSE = "Keeps logs whole at a fraction of the size that xz needs."
STATUS = "exit status: 0 done, 1 nothing found (verbs that search), 2 an error"


OPTIONS = {
    "-V, --version": "print the version",
    "-h, --help": "this help; slipstick VERB --help says more of a verb",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line, by default the program's own, and returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    _files_for_closed_streams()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    status = _messages.FAILED
    try:
        status = _dispatch(words)
        _flush_stdout()
    except BrokenPipeError:
        _silence_stdout()  # the reader has what it wanted
        status = _messages.DONE
    except _messages.StandardOutputError as error:
        _silence_stdout()
        _messages.complain("standard output", str(error))
        status = _messages.FAILED  # the verb itself may have ended well, with its text still in the buffer
    except KeyboardInterrupt:
        import signal

        from ._signals import die_of

        die_of(signal.SIGINT)  # without a traceback; shells see the truth
    except Exception:
        import traceback

        traceback.print_exc()
        _messages.complain("internal error; please report it with the lines above")
    return status


def _files_for_closed_streams() -> None:
    """Puts a file that refuses every use where a standard stream is closed, so that no other file gets its number."""
    for number, name, opposite in ((0, "stdin", os.O_WRONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, opposite)  # takes the lowest free number, this one
            if name != "stdin":
                setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115


def _dispatch(words: list[str]) -> int:
    if not words:
        sys.stderr.write(_overview())
        return _messages.FAILED
    first, rest = words[0], words[1:]
    if first in ("-V", "--version"):
        import slipstick

        _messages.say(f"slipstick {slipstick.__version__}\n")
        return _messages.DONE
    if first in ("-h", "--help") or (first == "help" and not rest):
        _messages.say(_overview())
        return _messages.DONE
    if first == "help":
        first, rest = rest[0], ["--help"]
    if first not in _verbs.SUMMARIES:
        _messages.complain(f"unknown {_unknown(first)}; see slipstick --help")
        return _messages.FAILED
    return _run(first, rest)


def _unknown(word: str) -> str:
    """What a word is that stands where a verb should, and what may have been meant."""
    from ._parser import similar

    shown = _messages.display(word)
    if word.startswith("-"):
        return f"option {shown}{similar(word, ('--version', '--help'))}"
    if os.path.isfile(word):
        from shlex import quote

        verb = "cat" if word.endswith(".slip") else "compress"
        return f"verb {shown}; the file of that name may follow one, as in slipstick {verb} {quote(shown)}"
    other = _verbs.OTHER_NAMES.get(word)
    return f"verb {shown}" + (f" (similar: {other})" if other else similar(word, _verbs.SUMMARIES))


def _run(name: str, words: list[str]) -> int:
    from ._parser import parse

    verb = _verbs.load(name)
    try:
        arguments = parse(verb, words)
        if not arguments.help:
            return verb.run(arguments)
    except _messages.UsageError as error:
        _messages.complain(f"{name}: {error}; see slipstick {name} --help")
        return _messages.FAILED
    from ._help import format_help

    _messages.say(format_help(verb, full=arguments.help == "--help"))
    return _messages.DONE


def _overview() -> str:
    from ._help import HELP_WIDTH, entry

    width = _messages.line_width(HELP_WIDTH)
    verbs, options = ("".join(entry(name, (text,), width) for name, text in each.items()) for each in (_verbs.SUMMARIES, OPTIONS))
    return OVERVIEW.format(purpose=_messages.fold(PURPOSE, width), verbs=verbs, options=options, status=_messages.fold(STATUS, width))


def _flush_stdout() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise _messages.of_standard_output(error) from None


def _silence_stdout() -> None:
    """Sends what is still buffered nowhere, so that the interpreter's last flush does not complain."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    except OSError:
        pass
