# Contract: every byte comes back, at every level and for any number of threads, and the archive is the same for any number of threads; it is never
# larger than zstd -3 plus 1 KiB. The oracle is the input itself, and zstandard and lzma beside it.
import base64
import lzma
import os
import random
from pathlib import Path

import pytest
import zstandard

import slipstick
from slipstick import _core, logs

RANDOM = random.Random(20261123)


def words(count):
    return " ".join("".join(RANDOM.choices("abcdefghij0123456789.:/-\"'[]", k=RANDOM.randint(1, 12))) for _ in range(count))


CASES = {
    "empty": b"",
    "one byte": b"x",
    "one line feed": b"\n",
    "no final line feed": b"a 1\nb 2\nc 3",
    "empty lines": b"\n\n\na\n\n",
    "CR": b"one\rtwo\rthree\r",
    "CRLF": b"line 1\r\nline 2\r\n" * 100,
    "mixed ends": b"a 1\nb 2\r\nc 3\rd\n\r\n" * 50,
    "NULs": b"a\0b 12\n\0\0\n" * 100,
    "invalid UTF-8": b"\xff\xfe caf\xe9 17 \x80\n" * 100,
    "random binary": RANDOM.randbytes(100_000),
    "long line": b"k=1 " * 800_000,
    "equal lines": b"May  3 10:00:00 host app[7]: same 17\n" * 50_000,
    "random lines": "\n".join(words(8) for _ in range(20_000)).encode(),
    "numbers": "\n".join(str(RANDOM.choice([0, 7, 10**17, 10**18, 10**30])).zfill(RANDOM.randint(1, 30)) for _ in range(3000)).encode(),
    "odd times": b"24:60:60 1:02:03 12:34:56.7890123456 00:00:00,1 23:59:59:9\n" * 200,
    "hex": "".join(f"0x{RANDOM.getrandbits(64):x} {RANDOM.getrandbits(40):X} {RANDOM.getrandbits(28):07x}\n" for _ in range(2000)).encode(),
}


@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_every_byte_comes_back(name, level):
    raw = CASES[name] if level != "max" else CASES[name][:200_000]  # a few MB/s
    packed = logs.compress(raw, level=level, threads=1)
    assert logs.decompress(packed, threads=1) == raw
    assert len(packed) <= len(zstandard.ZstdCompressor(level=3).compress(raw)) + 1024


@pytest.mark.parametrize("level", ["fast", "default", pytest.param("max", marks=pytest.mark.long)])
def test_archives_of_several_blocks_do_not_depend_on_threads(level):
    line = b"2026-11-23 12:00:%02d.%03d INFO worker-%d job %d finished in %d ms\n"
    piece = b"".join(line % (i // 1000 % 60, i % 1000, i % 7, i, i * 7919 % 977) for i in range(20_000))
    raw = piece * (_core.logs.BLOCK_BYTES * 5 // 4 // len(piece))
    archives = {threads: logs.compress(raw, level=level, threads=threads) for threads in (1, 2)}
    assert archives[1] == archives[2]
    assert logs.decompress(archives[1], threads=2) == raw


# Made when they are asked for: each is larger than a block, or has more lines than most logs.
LARGE_CASES = {
    "one line of 200 MB": lambda: (RANDOM.randbytes(1000).hex().encode() + b" k=1") * 100_000,
    "a million random lines": lambda: base64.encodebytes(RANDOM.randbytes(57_000_000)),
    "a million random lines of numbers": lambda: b"".join(
        b"%d %x\n" % (RANDOM.getrandbits(50), RANDOM.getrandbits(60)) for _ in range(1_000_000)
    ),
    "a million equal lines": lambda: b"May  3 10:00:00 host app[7]: same 17\n" * 1_000_000,
}


@pytest.mark.long
@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("name", LARGE_CASES)
def test_every_byte_of_large_logs_comes_back(name, level):
    raw = LARGE_CASES[name]()
    packed = logs.compress(raw, level=level, threads=1)
    assert len(packed) <= len(zstandard.ZstdCompressor(level=3).compress(raw)) + 1024
    assert logs.compress(raw, level=level, threads=2) == packed
    for threads in (1, 2):
        assert logs.decompress(packed, threads=threads) == raw


@pytest.mark.parametrize("level", logs.LEVELS)
def test_archives_do_not_depend_on_the_instruction_set(level):
    raw = CASES["hex"][:20_000] + CASES["random lines"][:20_000] + CASES["equal lines"][:20_000]
    archives = {}
    try:
        for isa in _core.isa_levels():
            slipstick.set_isa(isa)
            archives[isa] = logs.compress(raw, level=level, threads=1)
    finally:
        slipstick.set_isa(None)
    assert len(set(archives.values())) == 1, sorted(archives)


def development_logs():
    folder = os.environ.get("SLIPSTICK_LOGS") or Path(__file__).parents[3] / "shared" / "data"
    return sorted(path for path in Path(folder).rglob("*") if path.name.endswith((".log", ".log.xz")))


def contents(path):
    return lzma.open(path).read() if path.suffix == ".xz" else path.read_bytes()


# Ratios that the levels have reached and must keep: (fast, default, max).
FLOORS = {
    "linux_loghub": (28, 36, 46),
    "openssh_syslog": (60, 80, 180),
    "spark_debug": (75, 95, 100),
    "strace_builds": (19, 24, 37),
    "nginxplus_json_elastic": (60, 76, 160),
}


@pytest.mark.skipif(not development_logs(), reason="no development logs: set SLIPSTICK_LOGS to a folder of .log or .log.xz files")
@pytest.mark.parametrize("path", development_logs(), ids=lambda path: path.name)
def test_development_logs_come_back_small(path):
    raw = contents(path)
    for level in logs.LEVELS:
        packed = logs.compress(raw, level=level)
        assert logs.decompress(packed) == raw
        assert len(packed) <= len(zstandard.ZstdCompressor(level=3).compress(raw)) + 1024
        floors = FLOORS.get(path.name.split(".")[0])
        if floors:
            assert len(raw) / len(packed) >= floors[logs.LEVELS.index(level)]
        if path.name.endswith("_2k.log") and level != "fast":
            assert len(packed) < len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))
