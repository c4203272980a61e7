"""Archives made of blocks that exist: joined, taken out of damaged files, and gone on with. Nothing is decoded to be copied."""

from __future__ import annotations

import contextlib
import os

from slipstick._core import logs as core

from ._atomic import AtomicFile
from ._stream import compress_chunks

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# A last block of fewer raw bytes is packed anew with what is appended, so that many small pieces pack as one large one.
SMALL_BLOCK_BYTES = 8 << 20


class Blocks:
    """Some blocks of an archive: data is a buffer with the archive, indices says which."""

    def __init__(self, data: Any, archive: Any, indices: Iterable[int] | None = None) -> None:
        self._view = memoryview(data)
        self.archive = archive
        self.indices = list(range(archive.block_count) if indices is None else indices)

    def pieces(self) -> Iterator[memoryview]:
        for index in self.indices:
            block = self.archive.block(index)
            yield self._view[block["offset"] : block["offset"] + block["archive_bytes"]]


def joined(level: str, parts: Iterable[Blocks]) -> Iterator[Any]:
    """One archive of all these blocks, piece by piece."""
    yield core.archive_header(level)
    entries = []
    for part in parts:
        yield from part.pieces()
        entries += [(part.archive, index) for index in part.indices]
    yield core.archive_footer(entries)


def appended(data: Any, chunks: Iterable[Any], *, level: str | None = None, threads: int = 0) -> Iterator[Any]:
    """What the archive in data becomes when chunks of raw bytes are appended to it, piece by piece.

    The old blocks stay as they are, but a small last one; the new ones are an archive of their own behind them.
    """
    archive = core.Archive(data)
    kept = archive.block_count
    rest = b""
    if kept and archive.block(kept - 1)["raw_bytes"] < SMALL_BLOCK_BYTES:
        kept -= 1
        rest = archive.decompress_block(kept)
    if kept:
        yield from joined(archive.level, [Blocks(data, archive, range(kept))])

    def raw() -> Iterator[Any]:
        if rest:
            yield rest
        yield from chunks

    yield from compress_chunks(raw(), level=level or archive.level, threads=threads)


@contextlib.contextmanager
def replaced(path: Any) -> Iterator[tuple[Any, AtomicFile]]:
    """An existing file, open and locked, and its successor, which takes its place when the body ends well.

    Whatever happens before that, a killed process too, the file stays as it was. A second one that wants to replace it waits.
    """
    while True:
        with open(path, "rb", buffering=0) as file, _locked(file):
            if not _is_the_file_of(path, file):
                continue
            with AtomicFile(path, overwrite=True, like=os.fstat(file.fileno())) as output:
                yield file, output
            with contextlib.suppress(OSError):
                os.utime(path)  # unlike a copy, it has changed
            return


@contextlib.contextmanager
def _locked(file: Any) -> Iterator[None]:
    locked = False
    with contextlib.suppress(ImportError, OSError):  # a file system without locks
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        locked = True
    try:
        yield
    finally:
        if locked:  # closing does not end it while someone still holds a mapping of the file, which has a copy of the descriptor
            fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _is_the_file_of(path: Any, file: Any) -> bool:
    """Whoever held the lock before us may have put another file there."""
    return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
