"""Logs kept whole at a fraction of the size that xz needs, and searchable while packed.

>>> from slipstick import logs
>>> raw = b"".join(b"2024-05-01 12:00:%02d INFO job %d done\\n" % (i % 60, i) for i in range(5000))
>>> packed = logs.compress(raw)
>>> logs.decompress(packed) == raw and len(packed) * 20 < len(raw)
True

Every byte comes back: line ends, NULs, invalid UTF-8. Any data can be packed; data without log lines only stays as large
as zstd leaves it. Nothing here imports NumPy, SciPy or torch.
"""

from __future__ import annotations

from slipstick._arguments import thread_count
from slipstick._core import logs as _core

from . import _arguments
from ._stream import compress_chunks, decompress_chunks, view_chunks

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from ._archive import Archive
    from ._file import open

__all__ = ["LEVELS", "Archive", "compress", "decompress", "open"]

LEVELS: tuple[str, ...] = tuple(_core.level_names())
"""The levels from the fastest to the smallest."""


if not TYPE_CHECKING:  # a checker would take every name for one of these

    def __getattr__(name: str) -> Any:
        # The command reads and writes its files otherwise, so these are imported when first used
        if name == "Archive":
            from ._archive import Archive

            return Archive
        if name == "open":
            from ._file import open

            return open
        raise AttributeError(f"module 'slipstick.logs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def compress(data: Any, *, level: str = "default", threads: int | None = None) -> bytes:
    """Packs bytes into one archive.

    Args:
        data: bytes-like, C-contiguous; any bytes, also none.
        level: one of LEVELS, the first the fastest and the last the smallest.
        threads: positive int; default see slipstick.set_num_threads. Does not change a byte of the result.
    Returns:
        The archive, as `slipstick compress` writes it.
    Raises:
        TypeError: data is not bytes-like, level not a str, threads not an int.
        ValueError: level is not in LEVELS, threads is not positive.
    """
    level = _arguments.level_name("compress", level)
    count = thread_count("compress", threads)
    view = _arguments.bytes_view("compress", data)
    return b"".join(compress_chunks(view_chunks(view), level=level, threads=count))


def decompress(data: Any, *, threads: int | None = None, max_output: int | None = None) -> bytes:
    """Unpacks an archive; checksums are compared on the way.

    Args:
        data: bytes-like, C-contiguous: a whole archive.
        threads: positive int; default see slipstick.set_num_threads.
        max_output: most bytes to give back, against archives that unpack to more than there is memory; default no limit.
    Returns:
        The bytes that were packed.
    Raises:
        TypeError: data is not bytes-like, threads or max_output not an int.
        ValueError: threads or max_output is not positive.
        CorruptArchiveError: not an archive, truncated or damaged.
        LimitExceededError: there are more than max_output bytes.
        UnsupportedError: a newer version of the format.
    """
    count = thread_count("decompress", threads)
    limit = _arguments.byte_limit("decompress", "max_output", max_output)
    view = _arguments.bytes_view("decompress", data)
    return b"".join(decompress_chunks(view_chunks(view), threads=count, max_output=limit))
