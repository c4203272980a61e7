"""What verbs that read archives share: the decoded pieces of an open input, and an input looked into at random."""

from __future__ import annotations

import mmap

from slipstick._core import logs as core
from slipstick.logs._stream import decompress_chunks

from . import _options
from ._files import Input, watched
from ._messages import Complaint

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ._parser import Arguments
    from ._progress import Progress

LIMITS = (_options.THREADS, _options.MAX_MEMORY, _options.MAX_OUTPUT)


def not_an_archive(source: Input) -> str:
    if source.source.format:
        return f"is {source.source.format} data, not a slipstick archive"
    return "is not a slipstick archive" if source.source.head else "is empty, not a slipstick archive"


def decoded(source: Input, arguments: Arguments, progress: Progress) -> Iterator[bytes]:
    if source.source.format != "slipstick":
        raise Complaint(not_an_archive(source))
    return decompress_chunks(
        watched(source.source.raw_chunks(), source, progress),
        threads=arguments.threads or 0,
        max_memory=arguments.max_memory or 0,
        max_output=arguments.max_output or 0,
    )


def content(source: Input) -> Any:
    """The bytes of an input: a file mapped, a stream read to its end."""
    if source.stat is None or not source.stat.st_size:
        return b"".join(source.source.raw_chunks())
    with open(source.path, "rb", buffering=0) as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def mapped(path: str) -> Any:
    """The bytes of an archive."""
    with Input(path) as source:
        if source.source.format != "slipstick":
            raise Complaint(not_an_archive(source))
        return content(source)


def archive(path: str) -> Any:
    """The core's Archive of a file or a stream."""
    return core.Archive(mapped(path))


def check_limits(archive: Any, arguments: Arguments) -> None:
    """--max-memory, as the stream decoder counts it; blocks are decoded one at a time."""
    most = max((archive.block(index)["decoding_memory"] for index in range(archive.block_count)), default=0)
    if arguments.max_memory and most > arguments.max_memory:
        raise Complaint(f"a block needs {most} bytes of memory; expected at most {arguments.max_memory}")
