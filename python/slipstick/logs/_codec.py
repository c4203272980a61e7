"""The general byte codec under the columns: zstd, called back by the core from its worker threads.

The core knows no Python library; it is handed two functions when slipstick.logs is imported. zstandard itself is
imported at the first block, so that looking at an archive's index or asking for help does not pay for it.
"""

from __future__ import annotations

import slipstick

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

# Compressors hold tables worth keeping but serve one call at a time. A list of idle ones a level, and not thread-local
# storage: a worker's Python state ends with each call into Python, and its thread-locals with it.
_idle_compressors: dict[int, list[Any]] = {}
_idle_decompressors: list[Any] = []


def _borrow(idle: list[Any], make: Any) -> Any:
    try:
        return idle.pop()
    except IndexError:
        return make()


def compress(data: Any, level: int) -> bytes:
    """One zstd frame of data at a zstd level. The same bytes whatever the thread."""
    import zstandard

    idle = _idle_compressors.setdefault(level, [])
    compressor = _borrow(idle, lambda: zstandard.ZstdCompressor(level=level))
    frame = compressor.compress(data)
    idle.append(compressor)
    return frame


def decompress(data: Any, raw_size: int) -> bytes:
    """The raw_size bytes of one zstd frame.

    Raises:
        CorruptArchiveError: not a frame, bytes after it, or another size than raw_size. The size that the frame states
            is compared first, so a lying frame never makes us allocate more than raw_size.
    """
    import zstandard

    decompressor = _borrow(_idle_decompressors, zstandard.ZstdDecompressor)
    try:
        stated = zstandard.frame_content_size(data)  # -1: the frame does not say
        if stated not in (-1, raw_size):
            raise slipstick.CorruptArchiveError(f"zstd frame states {stated} bytes; expected {raw_size}")
        # A limit of 0 would mean "none" to zstandard
        raw = decompressor.decompress(data, max_output_size=max(raw_size, 1), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise slipstick.CorruptArchiveError(f"zstd frame is damaged: {error}") from None
    _idle_decompressors.append(decompressor)
    if len(raw) != raw_size:
        raise slipstick.CorruptArchiveError(f"zstd frame holds {len(raw)} bytes; expected {raw_size}")
    return raw
