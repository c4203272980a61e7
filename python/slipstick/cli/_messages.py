"""What the command line says when something is wrong: one line on stderr, and a status that remembers."""

from __future__ import annotations

import os
import sys

from slipstick import CorruptArchiveError

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

LEAST_COLUMNS = 40  # of a narrower terminal every text is folded by the terminal

DONE = 0
NOTHING_FOUND = 1
FAILED = 2


class UsageError(Exception):
    """A command line that cannot be understood."""


class Complaint(Exception):
    """A reason not to work on a file, in words."""


class StandardOutputError(Exception):
    """Standard output takes no more, for example because a disk is full. Ends the run, unlike a bad file."""


def display(path: str) -> str:
    """A path on one line, safe for a terminal; bytes that are not text are shown as \\xNN."""
    if path.isprintable() or not path:
        return path
    shown = []
    for character in path:
        if character.isprintable():
            shown.append(character)
        else:
            shown.extend(f"\\x{byte:02x}" for byte in os.fsencode(character))
    return "".join(shown)


def fold(text: str, width: int, indent: str = "") -> str:
    """A paragraph in lines of at most width characters, each ended; words such as --after stay whole."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(f"{indent}{lines[-1]} {word}") > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "".join(f"{indent}{line}\n" for line in lines)


def is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # None or closed
        return False


def columns(stream: Any, otherwise: int) -> int:
    """Characters in a line of the terminal that stream is, or otherwise, where it is none or does not say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or otherwise
    except (AttributeError, ValueError, OSError):
        return otherwise


def line_width(most: int) -> int:
    """Characters for a line of text on standard output: most, or fewer on a terminal that has fewer."""
    return max(LEAST_COLUMNS, min(most, columns(sys.stdout, most)))


def say(text: str) -> None:
    """Writes text that was asked for to standard output."""
    try:
        sys.stdout.write(text)
    except OSError as error:
        raise of_standard_output(error) from None


def of_standard_output(error: OSError) -> Exception:
    """What an error of writing to standard output is to be raised as: a reader that has what it wanted is no trouble."""
    return error if isinstance(error, BrokenPipeError) else StandardOutputError(reason(error))


def complain(*parts: str) -> None:
    line = ": ".join(("slipstick", *parts))
    try:
        sys.stderr.write(line.replace("\n", " ") + "\n")
        sys.stderr.flush()
    except (OSError, AttributeError):
        pass  # nobody listens


def reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return "out of memory"
    return str(error) or type(error).__name__


class Status:
    """The exit status of work on several files: one bad file is told and the others go on."""

    def __init__(self) -> None:
        self.code = DONE

    def watch(self, path: str) -> _Watch:
        """For a with statement, whose body works on the path."""
        return _Watch(self, path)

    def fail(self, path: str, text: str) -> None:
        complain(display(path), text)
        self.code = FAILED


class _Watch:
    def __init__(self, status: Status, path: str) -> None:
        self._status, self._path = status, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """Whether the error, if there is one, was told."""
        path = self._path
        if isinstance(error, BrokenPipeError):
            return False
        if isinstance(error, FileExistsError):
            self._status.fail(error.filename or path, "exists; -f overwrites it")
        elif isinstance(error, OSError):
            self._status.fail(error.filename if isinstance(error.filename, str) else path, reason(error))
        elif isinstance(error, RuntimeError):  # the core found itself in a state that cannot be
            self._status.fail(path, f"internal error, please report it: {reason(error)}")
        elif isinstance(error, CorruptArchiveError):
            self._status.fail(path, f"{reason(error)}; slipstick recover saves what whole blocks it has")
        elif isinstance(error, (Complaint, ValueError, MemoryError)):  # the library's errors are ValueErrors
            self._status.fail(path, reason(error))
        else:
            return False
        return True
