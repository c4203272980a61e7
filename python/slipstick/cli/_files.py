"""Inputs and outputs of the verbs: names, streams, temporary files, and the loop that joins them."""

from __future__ import annotations

import io
import os
import stat
import sys

from slipstick.logs._foreign import Source
from slipstick.logs._stream import write_all

from ._messages import Complaint, Status, UsageError, display, is_terminal, of_standard_output, reason

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from ._parser import Arguments
    from ._progress import Progress

SUFFIX = ".slip"
STREAM = "-"


def inputs(arguments: Arguments) -> list[str]:
    """The operands; none means standard input where something is connected to it."""
    if arguments.operands:
        return arguments.operands
    if is_terminal(sys.stdin):
        raise UsageError("no FILE given; - reads standard input")
    return [STREAM]


def for_each(paths: Sequence[str], work: Callable[[str], None], *, writes: bool = False) -> int:
    """Works on every path, tells what failed, and returns the exit status.

    Args:
        writes: whether work leaves files, of which a signal must not leave a part.
    """
    if not writes and all(path != STREAM and os.path.isfile(path) for path in paths):
        return _each(paths, work)
    from ._signals import unwinding

    with unwinding():
        return _each(paths, work)


def _each(paths: Sequence[str], work: Callable[[str], None]) -> int:
    status = Status()
    for path in paths:
        with status.watch(path):
            work(path)
    return status.code


class _Heedful(io.FileIO):
    """A stream to read: a wait for it ends at once on a signal, and never takes "nothing yet" for the end."""

    def read(self, size: int | None = -1, /) -> bytes:
        from ._signals import wait_readable

        wait_readable(self)
        return super().read(size)


class Input:
    """An input, open in a with statement: its path, its bytes as a Source, and its os.stat_result when it is a file on disk."""

    def __init__(self, path: str) -> None:
        self.path = path
        if os.path.isdir(path) and path != STREAM:
            raise Complaint("is a directory; expected a file")
        if path == STREAM:
            self._file: io.FileIO = _Heedful(0, "rb", closefd=False)
        else:
            self._file = (io.FileIO if os.path.isfile(path) else _Heedful)(path, "rb")
        try:
            status = os.fstat(self._file.fileno())
            self.is_file = stat.S_ISREG(status.st_mode)
            self.stat = status if path != STREAM and self.is_file else None
            self.total = status.st_size if self.is_file else None
            self.source = Source(self._file)
        except BaseException:
            self._file.close()
            raise

    def progress(self, quiet: bool) -> Progress:
        from ._progress import Progress

        return Progress(display(self.path), self.total, not quiet)

    def __enter__(self) -> Input:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


class Blamed:
    """Names an input in complaints of a with statement about it, where the file that the work is for is another one."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (Complaint, ValueError)):
            raise Complaint(f"input {display(self._path)}: {reason(error)}") from None


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
    from slipstick.logs._atomic import AtomicFile

    return AtomicFile(path, overwrite=force, like=source.stat)


def new_output(path: str, *, force: bool) -> AbstractContextManager[Any]:
    """An archive made of several inputs: like open_output, with the mode that the umask gives."""
    if path == STREAM:
        return _stdout(force=force, binary=True)
    from slipstick.logs._atomic import AtomicFile

    return AtomicFile(path, overwrite=force)


def _stdout(*, force: bool, binary: bool) -> Stdout:
    if binary and not force and is_terminal(sys.stdout):
        raise Complaint("would write an archive to a terminal; use -o OUT or a pipe (-f writes it anyway)")
    return Stdout()


class Stdout:
    """Standard output as bytes, unbuffered: what is written is gone at once."""

    def __init__(self) -> None:
        self._file = io.FileIO(1, "wb", closefd=False)

    def write(self, data: Any) -> None:
        try:
            write_all(self._file, data)
        except OSError as error:
            raise of_standard_output(error) from None

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
