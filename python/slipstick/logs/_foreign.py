"""Reads logs that gzip, zstd, xz or bzip2 packed, as plain bytes. The first bytes of a file decide, not its name.

Members that follow each other are read as one stream. Data that ends early or is followed by anything else is an error,
never a shorter log: the standard library's file objects and zstandard's readers let both pass for some formats.
"""

from __future__ import annotations

from ._stream import CHUNK_BYTES, read_chunks

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# The first bytes of our own archives; see cpp/logs/FORMAT.md.
MAGIC = b"\x89SLIP\r\n\x1a"
HEAD_BYTES = 16
# What a decoder is given at once. zstd has no limit on the output of a call and can grow data 32768-fold.
ZSTD_INPUT_BYTES = 4096


class ForeignDataError(ValueError):
    """Packed input that ends early or is damaged."""


class Source:
    """A raw file with its first bytes looked at.

    Attributes:
        format: "slipstick", "gzip", "zstd", "xz", "bzip2", or "" for anything else.
        head: up to HEAD_BYTES first bytes.
        consumed: bytes of the underlying file read so far.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.head = b""
        while len(self.head) < HEAD_BYTES and (more := file.read(HEAD_BYTES - len(self.head))):
            self.head += more
        self.consumed = len(self.head)
        self.format = detect(self.head)
        self._unread = self.head

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        data = self._file.read(size)
        self.consumed += len(data)
        return data

    def raw_chunks(self) -> Iterator[bytes]:
        """The bytes as they are."""
        return read_chunks(self)

    def plain_chunks(self) -> Iterator[bytes]:
        """The bytes with the outer format taken off."""
        return _READERS.get(self.format, read_chunks)(self)


def detect(head: bytes) -> str:
    if head.startswith(MAGIC):
        return "slipstick"
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bzip2"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return "zstd"  # a frame, or a frame to skip: parallel zstd writes one first
    return ""


# The name that a packed file had before it was packed.
SUFFIXES = {"gzip": ".gz", "zstd": ".zst", "xz": ".xz", "bzip2": ".bz2"}


def _gzip_chunks(source: Source) -> Iterator[bytes]:
    import gzip
    import zlib

    try:
        file_object: Any = source
        with gzip.GzipFile(fileobj=file_object, mode="rb") as file:
            yield from read_chunks(file)
    except EOFError:
        raise _truncated("gzip") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _damaged("gzip", error) from None


def _xz_chunks(source: Source) -> Iterator[bytes]:
    import lzma

    return _member_chunks(source, "xz", lzma.LZMADecompressor, (lzma.LZMAError, EOFError))


def _bzip2_chunks(source: Source) -> Iterator[bytes]:
    import bz2

    return _member_chunks(source, "bzip2", bz2.BZ2Decompressor, (OSError, EOFError, ValueError))


def _member_chunks(source: Source, name: str, make_decoder: Callable[[], Any], errors: tuple[type[Exception], ...]) -> Iterator[bytes]:
    """Members one after the other through the interface that bz2 and lzma share, at most CHUNK_BYTES at a time."""
    decoder = None
    while data := source.read():
        while data:
            if decoder is None:
                data = data.lstrip(b"\0")  # the padding that xz allows between streams, tapes after the last
                if not data:
                    break
                decoder = make_decoder()
            try:
                yield decoder.decompress(data, CHUNK_BYTES)
                while not (decoder.eof or decoder.needs_input):
                    yield decoder.decompress(b"", CHUNK_BYTES)
            except errors as error:
                raise _damaged(name, error) from None
            data = decoder.unused_data if decoder.eof else b""
            decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise _truncated(name)


def _zstd_chunks(source: Source) -> Iterator[bytes]:
    import zstandard

    decoder = None
    while data := source.read(ZSTD_INPUT_BYTES):
        while data:
            decoder = decoder or zstandard.ZstdDecompressor().decompressobj()
            try:
                piece = decoder.decompress(data)
            except zstandard.ZstdError as error:
                raise _damaged("zstd", error) from None
            if piece:
                yield piece
            data = decoder.unused_data if decoder.eof else b""
            decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise _truncated("zstd")


def _truncated(name: str) -> ForeignDataError:
    return ForeignDataError(f"{name} data ends before its end mark")


def _damaged(name: str, error: Exception) -> ForeignDataError:
    return ForeignDataError(f"{name} data is damaged: {error}")


_READERS: dict[str, Callable[[Any], Iterator[bytes]]] = {
    "gzip": _gzip_chunks,
    "zstd": _zstd_chunks,
    "xz": _xz_chunks,
    "bzip2": _bzip2_chunks,
}
