"""slipstick.logs.open: an archive as a Python file object, read and written as a stream in bounded memory."""

from __future__ import annotations

import codecs
import io
import os

from slipstick._arguments import thread_count
from slipstick._core import logs as core

from . import _arguments
from ._atomic import AtomicFile
from ._stream import CHUNK_BYTES, decompress_chunks, read_chunks, write_all

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

MODES = ("rb", "rt", "wb", "wt", "xb", "xt")


def open(
    path: Any,
    mode: str = "rb",
    *,
    level: str = "default",
    threads: int | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> Any:
    """Opens an archive as a file object of the log's own bytes or text.

    Reading decodes block after block in order (use Archive for lines in the middle); there is no seek. Writing goes to a
    temporary name in the same directory, which gets its final name at close(); when the body of a `with` raises, nothing
    is left and an older file of that name stays.

    Args:
        path: str, bytes or os.PathLike; or a binary file object, which is read from or written to where it stands and
            not closed.
        mode: "rb" (default) or "rt" reads, "wb" or "wt" writes and replaces, "xb" or "xt" writes a new file only.
        level: one of LEVELS, for writing.
        threads: positive int; default see slipstick.set_num_threads. Does not change a byte of the result.
        encoding: for text; default "utf-8".
        errors, newline: for text, as in the built-in open: by default invalid bytes raise, and "\\r\\n" reads as "\\n"
            (newline="" keeps it).
    Returns:
        io.BufferedReader, io.BufferedWriter or io.TextIOWrapper.
    Raises:
        TypeError: level is no str, or threads no int.
        ValueError: mode, level or threads is none of these; encoding, errors or newline in a binary mode.
        OSError: the file cannot be opened; IsADirectoryError where a folder has that name.
        LookupError: encoding or errors is unknown.
        FileExistsError: mode is "x" and the file exists.
        CorruptArchiveError: while reading, when damage is met; every byte before that block has been given out.
    """
    if mode not in MODES:
        raise ValueError(f"open: mode is {mode!r}; expected one of {', '.join(map(repr, MODES))}")
    text = mode.endswith("t")
    for name, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
        if value is not None and not text:
            raise ValueError(f"open: {name} is {value!r} but mode is {mode!r}; expected a text mode")
    if errors is not None:
        codecs.lookup_error(errors)
    level = _arguments.level_name("open", level)
    count = thread_count("open", threads)
    binary: io.BufferedReader | io.BufferedWriter
    if mode.startswith("r"):
        binary = io.BufferedReader(_Reader(path, count), CHUNK_BYTES)
    else:
        binary = _BufferedWriter(_Writer(path, level, count, overwrite=mode.startswith("w")), CHUNK_BYTES)
    if not text:
        return binary
    try:
        return _TextWrapper(binary, encoding or "utf-8", errors, newline)
    except BaseException:  # an unknown encoding must not leave an empty archive where an older one was
        if isinstance(binary, _BufferedWriter):
            binary.raw.discard()  # type: ignore[attr-defined]
        binary.close()
        raise


class _Reader(io.RawIOBase):
    _closes = False  # until there is a file; close() runs even where the constructor raised

    def __init__(self, path: Any, threads: int) -> None:
        closes = not hasattr(path, "read")
        self._file = io.FileIO(os.fsdecode(path), "rb") if closes else path
        self._closes = closes
        self.name = getattr(self._file, "name", None)
        self._pieces = decompress_chunks(read_chunks(self._file), threads=threads)
        self._rest = memoryview(b"")
        self._failure: BaseException | None = None

    def readable(self) -> bool:
        return True

    def _next_piece(self) -> bytes:
        if self._failure is not None:  # a generator that raised would look like the end of the file
            raise self._failure
        try:
            return next(self._pieces, b"")
        except BaseException as error:
            self._failure = error
            raise

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        if not self._rest:
            self._rest = memoryview(self._next_piece())
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def readall(self) -> bytes:
        pieces = [self._rest]
        self._rest = memoryview(b"")
        while piece := self._next_piece():
            pieces.append(memoryview(piece))
        return b"".join(pieces)

    def close(self) -> None:
        if not self.closed and self._closes:
            self._file.close()
        super().close()


class _Writer(io.RawIOBase):
    _discarded = True  # until there is an output

    def __init__(self, path: Any, level: str, threads: int, overwrite: bool) -> None:
        self._compressor = core.Compressor(level, threads)
        if hasattr(path, "write"):
            self._output: Any = _Borrowed(path)
            self.name = getattr(path, "name", None)
        else:
            self._output = AtomicFile(path, overwrite=overwrite)
            self.name = os.fspath(path)
        self._discarded = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._discarded:
            return size
        try:
            self._output.write(self._compressor.write(data))
        except BaseException:
            self.discard()
            raise
        return size

    def discard(self) -> None:
        """Gives up: later writes, such as those of a buffer being closed, go nowhere."""
        self._discarded = True
        self._output.discard()

    def close(self) -> None:
        if self.closed:
            return
        try:
            if not self._discarded:
                self._output.write(self._compressor.finish())
                self._output.commit()
        except BaseException:
            self.discard()
            raise
        finally:
            super().close()


class _Borrowed:
    """A file object of the caller, written where it stands; what was written cannot be taken back."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: Any) -> None:
        write_all(self._file, data)

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        pass


class _BufferedWriter(io.BufferedWriter):
    def __exit__(self, exception_type: Any, exception: Any, traceback: Any) -> None:
        if exception_type is not None:
            self.raw.discard()  # type: ignore[attr-defined]
        super().__exit__(exception_type, exception, traceback)


class _TextWrapper(io.TextIOWrapper):
    def __exit__(self, exception_type: Any, exception: Any, traceback: Any) -> None:
        if exception_type is not None and isinstance(self.buffer, _BufferedWriter):
            self.buffer.raw.discard()  # type: ignore[attr-defined]
        super().__exit__(exception_type, exception, traceback)
