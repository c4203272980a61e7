"""Packs a log of this machine with slipstick and with what people use today, and gives every byte back."""

from __future__ import annotations

import functools
import lzma
import os
import sys
from collections.abc import Callable, Iterator

import zstandard

from slipstick import logs

from ._report import Report, short, timed

LOG_FOLDER = "/var/log"
LEAST_BYTES = 100_000
MOST_BYTES = 4_000_000  # xz -9e takes about two seconds for each of these megabytes


def run() -> Report:
    name, data = find_log()
    rows, sizes = [], {}
    for packer, pack, unpack in _packers():
        packed, pack_seconds = timed(functools.partial(pack, data))
        back, unpack_seconds = timed(functools.partial(unpack, packed))
        if back != data:
            raise RuntimeError(f"{packer} did not give {name} back")
        sizes[packer] = len(packed)
        rows.append((packer, f"{len(packed):,}", short(len(data) / len(packed)), short(pack_seconds), short(unpack_seconds)))
    ours, xz = min(size for packer, size in sizes.items() if packer.startswith("slipstick")), sizes["xz -9e"]
    return Report(
        title=f"logs: packing {name}, {len(data):,} bytes, and giving every byte back.",
        head=("", "bytes", "ratio", "pack s", "unpack s"),
        rows=rows,
        meaning=f"slipstick found the templates and columns of the log by itself and needs {short(ours / xz)} of the bytes that xz needs."
        " Each result was unpacked and compared. Seconds are CPU time.",
        command="slipstick compress app.log",
    )


def _packers() -> Iterator[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    for level in reversed(logs.LEVELS):
        yield f"slipstick {level}", functools.partial(logs.compress, level=level), logs.decompress
    for effort in (3, 19):
        yield f"zstd -{effort}", zstandard.ZstdCompressor(level=effort).compress, zstandard.ZstdDecompressor().decompress
    yield "xz -9e", functools.partial(lzma.compress, preset=9 | lzma.PRESET_EXTREME), lzma.decompress


def find_log() -> tuple[str, bytes]:
    """The name and the first MOST_BYTES of the largest log that may be read here, else one that is made: who called what in an import."""
    largest, size = None, LEAST_BYTES
    for folder, _, names in os.walk(LOG_FOLDER):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".log") or name in ("syslog", "messages"):
                try:
                    found = os.stat(path).st_size if os.access(path, os.R_OK) else 0
                except OSError:
                    continue
                if found >= size:
                    largest, size = path, found
    if largest is not None:
        with open(largest, "rb") as file:
            return largest, file.read(MOST_BYTES)
    return "a trace of Python reading its own standard library", _traced_parse()


def _traced_parse() -> bytes:
    import ast
    import tokenize

    lines = []
    path = ast.__file__
    with open(path, "rb") as file:
        for number, token in enumerate(tokenize.tokenize(file.readline)):
            kind = tokenize.tok_name[token.type].lower()
            lines.append(
                f"2024-05-01T12:{number // 6000 % 60:02d}:{number // 100 % 60:02d}.{number % 100:02d}0Z DEBUG tokenizer[{os.path.basename(path)}]: "
                f"{kind} at line {token.start[0]} column {token.start[1]}: {token.string!r}"
            )
    return ("\n".join(lines) + "\n").encode(sys.getdefaultencoding())
