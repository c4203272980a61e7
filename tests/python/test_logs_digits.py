# Contract: digests, identifiers and keys in a log cost about the bits they have, at every level, and less than under xz -9e; whatever their shape
# is, every byte comes back, to the reader of the format document too, and a search finds what stands in the lines. Oracles: the raw
# bytes, Python's re, lzma, and the count of random bits.
import lzma
import random
import re

import format_reader
import pytest

import slipstick
from slipstick import cli, logs
from slipstick._core import logs as core

MADE = random.Random(20261126)
HEX, UPPER, BASE64 = "0123456789abcdef", "0123456789ABCDEF", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def digits(count, alphabet=HEX):
    return "".join(MADE.choices(alphabet, k=count))


def digest_log(lines, per_line=2):
    names = ["numpy", "scipy", "requests", "zstandard", "setuptools"]
    return "".join(
        f"Found link https://host/packages/{digits(2)}/{digits(2)}/{digits(60)}/{MADE.choice(names)}-{i % 9}.{i % 7}.whl"
        + f"#sha256={digits(64)} (from index)" * (per_line - 1)
        + "\n"
        for i in range(lines)
    ).encode()


LOG = digest_log(2000)


@pytest.mark.parametrize("level", logs.LEVELS)
def test_digests_cost_their_bits(level, tmp_path):
    packed = logs.compress(LOG, level=level)
    assert logs.decompress(packed) == LOG
    assert 2000 * 64 < len(packed) < 2000 * 64 * 1.1
    assert len(packed) < len(lzma.compress(LOG, preset=9 | lzma.PRESET_EXTREME)) * 0.95
    (tmp_path / "a.slip").write_bytes(packed)
    with logs.Archive(tmp_path / "a.slip") as archive:
        streams = {stream["name"]: stream for stream in archive.info()["streams"]}
    assert streams["random digits"]["kind"] == "text"
    told = streams["random digits"]
    assert 2000 * 64 * 0.95 < told["archive_bytes"] <= 2000 * 64
    assert 1.9 * told["archive_bytes"] < told["raw_bytes"] <= 2000 * (66 + 64 - 2)  # but for two marks


def test_digests_that_come_again_cost_a_repeat():
    lines = LOG.splitlines(keepends=True)
    once, twice = (len(logs.compress(raw, level="fast")) for raw in (LOG, LOG + b"".join(MADE.sample(lines, 200))))
    assert twice - once < 200 * 20


@pytest.mark.parametrize("width", [7, 8])
def test_pairs_of_known_identifiers_stay_text(width):
    """Of which every pair is new, so that nothing repeats that a look at whole runs or at their bits would find."""
    pool = [digits(width) for _ in range(4096)]
    raw = "".join(f"hit {MADE.choice(pool)}{MADE.choice(pool)}{MADE.choice(pool)} ok\n" for _ in range(60000)).encode()
    packed = logs.compress(raw, level="default")
    assert logs.decompress(packed) == raw
    assert len(packed) < 440_000  # their places in the pool are 270 000, all bits of their digits 630 000 and 720 000


@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("alphabet", [UPPER, BASE64, BASE64[:-2] + "-_"], ids=["upper", "base64", "base64url"])
def test_other_alphabets(level, alphabet):
    raw = "".join(f'key {i % 7}: "{digits(86, alphabet)}"\n' for i in range(400)).encode()
    packed = logs.compress(raw, level=level)
    assert logs.decompress(packed) == raw == format_reader.read(packed)
    assert len(packed) < 400 * 86 * (4 if alphabet == UPPER else 6) / 8 * 1.05 + 500


HOSTILE = {
    "one run": digits(100_000),
    "one run of odd length with a feed": digits(65_001) + "\n",
    "mixed case": "".join(digits(33, HEX + "ABCDEF") + "\n" for _ in range(500)),
    "odd lengths": "".join(f"id={digits(MADE.choice([17, 33, 65]))}\n" for _ in range(700)),
    "runs that touch": "".join(digits(32) + digits(32, UPPER) + ("\n" if i % 3 else "x") for i in range(500)),
    "groups": "".join("-".join(digits(MADE.randint(1, 20)) for _ in range(MADE.randint(1, 30))) + "\n" for _ in range(500)),
    "all bytes": "".join(f"{digits(64)} {chr(i)}\n" for i in range(256)),
    "a digest again and again": f"x {digits(64)} y\n" * 500,
    "every other one again": "".join(f"{line} a\n{line} b\n{digits(64)} c\n" for line in (digits(64) for _ in range(200))),
    "zeros": ("0" * 64 + "\n") * 300,
    "dumps": "".join(f"{i * 16:08x}: {digits(4)} {'0000 ' * 7}|....|\n" for i in range(1000)),
    "one random digest": f"only {digits(64)}",
}


@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_shapes_come_back(name, level):
    raw = HOSTILE[name].encode("latin-1")
    packed = logs.compress(raw, level=level)
    assert logs.decompress(packed) == raw
    if level == "fast":
        assert format_reader.read(packed) == raw


def test_a_million_runs_come_back():
    raw = b"".join(b"%016x\n" % MADE.getrandbits(64) for _ in range(1_000_000))
    packed = logs.compress(raw, level="fast")
    assert logs.decompress(packed) == raw
    assert 8_000_000 < len(packed) < 8_200_000


@pytest.mark.parametrize("level", logs.LEVELS)
def test_search_in_archives_with_digests(level, tmp_path):
    lines = LOG[: LOG.index(b"\n", 60_000) + 1].splitlines(keepends=True)
    (tmp_path / "a.slip").write_bytes(logs.compress(b"".join(lines), level=level))
    some = re.search(rb"sha256=([0-9a-f]{64})", lines[150]).group(1)
    with logs.Archive(tmp_path / "a.slip") as archive:
        for pattern in (some, some[10:30], b"scipy-[1-3]", b"=0[0-9a-f]*0 ", b"packages/(a.|.a)/", b"nowhere"):
            wanted = [(number, line) for number, line in enumerate(lines) if re.search(pattern, line)]
            assert list(archive.grep(pattern.decode())) == wanted


def test_limits_hold_for_archives_with_digests(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.slip").write_bytes(packed := logs.compress(LOG))
    memory = core.Archive(packed).block(0)["decoding_memory"]
    assert cli.main(["cat", "--max-memory", str(memory), "a.slip"]) == 0
    assert capfdbinary.readouterr().out == LOG
    assert cli.main(["cat", "--max-memory", str(memory - 1), "a.slip"]) == 2
    assert cli.main(["info", "a.slip"]) == 0
    assert b"random digits (text)" in capfdbinary.readouterr().out
    with pytest.raises(slipstick.CorruptArchiveError):
        logs.decompress(packed[:1000] + packed[1001:])
