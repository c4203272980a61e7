"""The streaming loops: chunks of bytes in, chunks of bytes out, in bounded memory. Files and the command line use them."""

from __future__ import annotations

from slipstick._core import logs as core

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# Large enough that a call into the core costs nothing against its work, small enough that Ctrl-C is answered at once.
CHUNK_BYTES = 1 << 20


def read_chunks(file: Any) -> Iterator[bytes]:
    """Everything that file.read gives, a chunk at a time."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def view_chunks(view: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]


def compress_chunks(chunks: Iterable[Any], *, level: str, threads: int = 0) -> Iterator[bytes]:
    """The archive of the concatenated chunks, piece by piece as blocks fill."""
    compressor = core.Compressor(level, threads)
    for chunk in chunks:
        if piece := compressor.write(chunk):
            yield piece
    yield compressor.finish()


def decompress_chunks(chunks: Iterable[Any], *, threads: int = 0, max_memory: int = 0, max_output: int = 0) -> Iterator[bytes]:
    """The bytes of the archive that the chunks make up, as whole blocks, none of them empty.

    A truncated archive raises after its last whole block.
    """
    decompressor = core.Decompressor(threads, max_memory, max_output)
    for chunk in chunks:
        decompressor.feed(chunk)
        while (piece := decompressor.next()) is not None:
            if piece:
                yield piece
    decompressor.finish()


def write_all(file: Any, data: Any) -> None:
    """Writes every byte to a raw file, which may take a part at a time, or none for now when it is non-blocking."""
    view = memoryview(data)
    while view:
        written = file.write(view)
        if written is None:
            import select

            select.select([], [file], [])
        else:
            view = view[written:]
