"""Inputs and outputs of the verbs: names, streams, temporary files, and the loop that joins them."""

from __future__ import annotations

import argparse
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from slipstick.logs._atomic import AtomicFile
from slipstick.logs._foreign import Source
from slipstick.logs._stream import write_all

from ._messages import Complaint, Status, UsageError, display, is_terminal, reason, standard_output_errors
from ._progress import Progress
from ._signals import wait_readable

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

SUFFIX = ".slip"
STREAM = "-"


def inputs(arguments: argparse.Namespace) -> list[str]:
    """The operands; none means standard input where something is connected to it."""
    if arguments.operands:
        return arguments.operands
    if is_terminal(sys.stdin):
        raise UsageError("no FILE given; - reads standard input")
    return [STREAM]


def for_each(paths: Sequence[str], work: Callable[[str], None]) -> int:
    """Works on every path, tells what failed, and returns the exit status."""
    status = Status()
    for path in paths:
        with status.watch(path):
            work(path)
    return status.code


class _Heedful(io.FileIO):
    """A file to read: a wait for it ends at once on a signal, and never takes "nothing yet" for the end."""

    def read(self, size: int | None = -1, /) -> bytes:
        wait_readable(self)
        return super().read(size)


class Input:
    """An open input: its path, its bytes as a Source, and its os.stat_result when it is a file on disk."""

    def __init__(self, path: str, file: Any) -> None:
        self.path = path
        status = os.fstat(file.fileno())
        self.is_file = stat.S_ISREG(status.st_mode)
        self.stat = status if path != STREAM and self.is_file else None
        self.total = status.st_size if self.is_file else None
        self.source = Source(file)

    def progress(self, quiet: bool) -> Progress:
        return Progress(display(self.path), self.total, not quiet)


@contextmanager
def open_input(path: str) -> Iterator[Input]:
    if path == STREAM:
        file = _Heedful(0, "rb", closefd=False)
    else:
        if os.path.isdir(path):
            raise Complaint("is a directory; expected a file")
        file = _Heedful(path, "rb")
    with file:
        yield Input(path, file)


@contextmanager
def blamed(path: str) -> Iterator[None]:
    """Names an input in complaints about it, where the file that the work is for is another one."""
    try:
        yield
    except (Complaint, ValueError) as error:
        raise Complaint(f"input {display(path)}: {reason(error)}") from None


def check_single_output(paths: Sequence[str], output: str | None) -> None:
    if output is not None and len(paths) > 1:
        raise UsageError(f"-o names one output but there are {len(paths)} inputs")


def open_output(source: Input, path: str, *, force: bool, binary: bool) -> AbstractContextManager[Any]:
    """The output of one input; it appears under its name only when the work succeeded.

    Args:
        path: STREAM or a file name.
        binary: whether the bytes would garble a terminal.
    """
    if path == STREAM:
        return _stdout(force=force, binary=binary)
    if source.stat and os.path.exists(path) and os.path.samestat(source.stat, os.stat(path)):
        raise Complaint("output is the input; give another name with -o")
    return AtomicFile(path, overwrite=force, like=source.stat)


def new_output(path: str, *, force: bool) -> AbstractContextManager[Any]:
    """An archive made of several inputs: like open_output, with the mode that the umask gives."""
    return _stdout(force=force, binary=True) if path == STREAM else AtomicFile(path, overwrite=force)


def _stdout(*, force: bool, binary: bool) -> Stdout:
    if binary and not force and is_terminal(sys.stdout):
        raise Complaint("would write an archive to a terminal; use -o OUT or a pipe (-f writes it anyway)")
    return Stdout()


class Stdout:
    """Standard output as bytes, unbuffered: what is written is gone at once."""

    def __init__(self) -> None:
        self._file = io.FileIO(1, "wb", closefd=False)

    def write(self, data: Any) -> None:
        with standard_output_errors():
            write_all(self._file, data)

    def __enter__(self) -> Stdout:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


def require_regular(path: str) -> None:
    """A device or a named pipe has no name of its own to derive the output's from. Asked before a pipe is opened."""
    if not (os.path.isfile(path) or os.path.isdir(path)) and os.path.exists(path):
        raise Complaint("is not a regular file; give -o OUT, or read it through -")


def watched(chunks: Iterator[bytes], source: Input, progress: Progress) -> Iterator[bytes]:
    """The same chunks, while the progress line follows."""
    for chunk in chunks:
        progress.update(source.source.consumed)
        yield chunk
