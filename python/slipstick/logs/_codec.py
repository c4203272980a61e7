"""The general byte codec under the columns: zstd, called back by the core from its worker threads.

The core knows no Python library; its bindings import this module when a block first needs it, and so does this zstandard, so that looking at
an archive's index or asking for help does not pay for them.
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


# Of the core: bytes by their frequency. zstd cannot be told to leave matches alone, but finds next to none by so few hashes of 7 bytes.
_LITERALS_ONLY = 0


def _compressor(level: int) -> Any:
    import zstandard

    if level != _LITERALS_ONLY:
        return zstandard.ZstdCompressor(level=level)
    parameters = zstandard.ZstdCompressionParameters(
        window_log=17, hash_log=6, chain_log=6, search_log=1, min_match=7, target_length=0, strategy=zstandard.STRATEGY_FAST
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def compress(data: Any, level: int) -> bytes:
    """One zstd frame of data at a zstd level, or at _LITERALS_ONLY. The same bytes whatever the thread."""
    idle = _idle_compressors.setdefault(level, [])
    compressor = _borrow(idle, lambda: _compressor(level))
    frame = compressor.compress(data)
    idle.append(compressor)
    return frame


# Pieces in which data are compressed that may turn out to be not worth it.
_PIECE_BYTES = 256 << 10
# Of a prefix zstd takes up as much as 8 << hash_log bytes; of level 3 that would be less than its window.
_WINDOW_LOG, _PREFIX_HASH_LOG = 21, 18


def compress_below(data: Any, prefix: Any, level: int, limit: int, uncounted: int, first: int = 0) -> bytes:
    """One zstd frame of data that may refer to prefix, or b"" as soon as it is larger than limit bytes.

    What comes of the first uncounted bytes of data does not count for the limit. A block of zstd's ends after the first `first` bytes, unless
    the frame is smaller otherwise. The same bytes whatever the thread.
    """
    import zstandard

    if prefix:
        usual = zstandard.ZstdCompressionParameters.from_level(level)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, window_log=max(_WINDOW_LOG, usual.window_log), hash_log=max(_PREFIX_HASH_LOG, usual.hash_log)
        )
        compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=_dictionary(prefix))
    else:
        idle = _idle_compressors.setdefault(level, [])
        compressor = _borrow(idle, lambda: _compressor(level))
    stream = compressor.compressobj(size=len(data))
    pieces, size = [], 0
    starts = [0, *range(first, len(data), _PIECE_BYTES)] if 0 < first < len(data) else range(0, len(data), _PIECE_BYTES)
    for start, end in zip(starts, [*starts[1:], len(data)]):
        pieces.append(stream.compress(data[start:end]))
        if end == first < len(data):
            pieces[-1] += stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        if start < uncounted:
            limit += len(pieces[-1])
        size += len(pieces[-1])
        if size > limit:
            break
    else:
        pieces.append(stream.flush())
        size += len(pieces[-1])
    frame = b""
    if size <= limit:
        # In one piece zstd often finds more: a stream's window wraps around in its buffer
        frame = min(b"".join(pieces), compressor.compress(data), key=len)
    if not prefix:
        idle.append(compressor)  # its next frame begins anew, though this one may have no end
    return frame


def _dictionary(prefix: Any) -> Any:
    import zstandard

    return zstandard.ZstdCompressionDict(bytes(prefix), dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def decompress(data: Any, raw_size: int) -> bytes:
    """The raw_size bytes of one zstd frame.

    Raises:
        CorruptArchiveError: not a frame, bytes after it, or another size than raw_size. The size that the frame states
            is compared first, so a lying frame never makes us allocate more than raw_size.
    """
    import zstandard

    decompressor = _borrow(_idle_decompressors, zstandard.ZstdDecompressor)
    raw = _unpacked(decompressor, data, raw_size)
    _idle_decompressors.append(decompressor)
    return raw


def decompress_behind(data: Any, prefix: Any, raw_size: int) -> bytes:
    """The raw_size bytes of one zstd frame that may refer to prefix. Raises as decompress does."""
    import zstandard

    return _unpacked(zstandard.ZstdDecompressor(dict_data=_dictionary(prefix)), data, raw_size)


def _unpacked(decompressor: Any, data: Any, raw_size: int) -> bytes:
    import zstandard

    try:
        stated = zstandard.frame_content_size(data)  # -1: the frame does not say
        if stated not in (-1, raw_size):
            raise slipstick.CorruptArchiveError(f"zstd frame states {stated} bytes; expected {raw_size}")
        # A limit of 0 would mean "none" to zstandard
        raw = decompressor.decompress(data, max_output_size=max(raw_size, 1), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise slipstick.CorruptArchiveError(f"zstd frame is damaged: {error}") from None
    if len(raw) != raw_size:
        raise slipstick.CorruptArchiveError(f"zstd frame holds {len(raw)} bytes; expected {raw_size}")
    return raw
