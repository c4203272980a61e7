# Contract: FORMAT.md is the whole truth. A reader written from it alone gives the bytes that the library gives: for the golden archives, for small
# archives made on the spot, and for damaged ones an error. The oracles are the raw bytes and the library beside it.
import hashlib
import random
from pathlib import Path

import format_reader
import pytest
from format_reader.block import Block

import slipstick
from slipstick import logs

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.slip"))


def sessions(count, seed):
    """Requests of a few processes at a time: sessions, copies within them, times, drifting numbers, new and old names."""
    rng = random.Random(seed)
    lines, clock = [], 36_000_000
    pids, names = [rng.randint(100, 99999) for _ in range(6)], [f"user{rng.randint(0, 10 ** rng.randint(1, 9))}" for _ in range(40)]
    state = {}
    while len(lines) < count:
        pid = rng.choice(pids)
        clock += rng.choice([0, 1, 7, 1000, 86_399])
        stamp = (
            f"2026-11-{clock // 86_400_000 % 28 + 1:2d} {clock // 3_600_000 % 24:02d}:{clock // 60_000 % 60:02d}:{clock // 1000 % 60:02d}"
        )
        head = f"{stamp}.{clock % 1000:03d} app[{pid}]: "
        name, job = state.setdefault(pid, (rng.choice(names), rng.getrandbits(rng.choice([4, 20, 48, 61]))))
        step = rng.randrange(5)
        if step == 0:
            lines.append(f"{head}accepted {name} from 10.{rng.randint(0, 3)}.0.{rng.randint(1, 254)} port {rng.randint(1024, 65535)}")
        elif step == 1:
            lines.append(f"{head}job {job} of {name} runs, id {rng.getrandbits(32):08x}-{len(lines):06d}")
        elif step == 2:
            lines.append(f"{head}job {job} took {rng.randint(0, 10**7) / 1000:.3f} ms, code {rng.choice([0, 0, 0, 1, 255, 10**20])}")
        elif step == 3:
            lines.append(f"{head}reads /srv/{name}/part-{rng.randint(0, 9):03d}/file{rng.randint(0, 3)}.dat at 0x{rng.getrandbits(40):X}")
        else:
            lines.append(f'{head}says "{rng.choice(names)} is {rng.choice(["up", "down", "gone"])}" at {rng.randint(0, 23):02d}:00:00,123')
            state.pop(pid)
    return "\n".join(lines).encode()


def counters(count):
    """More contexts than the smallest guess table has places."""
    rng = random.Random(7)
    return b"".join(b"%d %d %d %d\n" % (i * 1000, i % 7 * 3, rng.getrandbits(16), i // 3) for i in range(count))


NAMES = [
    b"a1b2c3d4",
    b"x9y8z7w6",
    b"k3l4m5n6",
    b"q1r2s3t4",
    b"u5v6w7x8",
    b"g1h2i3j4",
    b"z0y1x2w3",
    b"m1n2o3p4",
    b"f9e8t7y6",
    b"w2e3r4t5",
    b"p0o9i8u7",
]
CASES = {
    "sessions": sessions(220, 1),
    "few lines": sessions(9, 2),
    "counters": counters(400),
    "equal lines": b"Jun  9 10:00:00 host app[7]: same 17\r\n" * 100,
    "a word for each line": b"".join(b"state %s of %d\n" % (word, i) for i, word in enumerate(b"red green blue grey pink".split() * 30)),
    "strings of several columns": b"".join(
        b"%s/%s-x%d gives %s/%s\n" % (NAMES[i % 9], NAMES[i * i % 11], i, NAMES[i % 11], NAMES[i % 5]) for i in range(150)
    ),
    "long text": b"".join(
        b"%s %s\n" % (NAMES[i % 11] * (i % 4 + 1), hashlib.sha256(b"%d" % i).hexdigest()[:20].encode()) for i in range(140)
    ),
    "digests": b"".join(b"layer sha256:%s of %d\n" % (hashlib.sha256(b"%d" % i).hexdigest().encode(), i * i) for i in range(40)),
    "no lines": bytes(range(256)),
    "repeated bytes": bytes(range(256)) * 8,
    "NULs": b"a\0b 12\n\0\0\n" * 20 + b"end",
    "empty": b"",
}


@pytest.mark.parametrize(
    "path",  # the continued one has a whole block of 32 MiB
    [pytest.param(path, marks=pytest.mark.long) if path.stem == "v1_continued" else path for path in GOLDEN],
    ids=lambda path: path.stem,
)
def test_golden_archives(path, monkeypatch):
    read_text, by_slot = Block.read_text, []
    monkeypatch.setattr(Block, "read_text", lambda self, bits, templates: (read_text(self, bits, templates), by_slot.append(self.by_slot)))
    archive = path.read_bytes()
    assert format_reader.read(archive) == logs.decompress(archive)
    assert any(by_slot) == ("by_slot" in path.stem)


# The reader takes seconds for much text under `max`.
SLOW_UNDER_MAX = {"sessions", "counters", "a word for each line", "strings of several columns", "long text"}
MADE = [
    pytest.param(name, level, marks=pytest.mark.long if level == "max" and name in SLOW_UNDER_MAX else ())
    for name in CASES
    for level in logs.LEVELS
]


@pytest.mark.parametrize(("name", "level"), MADE)
def test_archives_made_on_the_spot(name, level):
    archive = logs.compress(CASES[name], level=level)
    assert format_reader.read(archive) == CASES[name]


def test_archives_that_follow_each_other():
    parts = [b"one 1\n", b"", b"two 2"]
    assert format_reader.read(b"".join(logs.compress(part) for part in parts)) == b"".join(parts)


@pytest.mark.parametrize("size", [0, 1, 5, 31, 32, 33, 63, 100])
def test_hash64_of_block_headers(size):
    # The library refuses a block whose checksums are not those of the document.
    raw = random.Random(size).randbytes(size)
    assert format_reader.read(logs.compress(raw)) == raw


@pytest.mark.parametrize("level", ["fast", "default"])  # what tells damage is the same for all
def test_damage_is_refused_by_both(level):
    archive = logs.compress(CASES["few lines"], level=level)
    rng = random.Random(3)
    for _ in range(40):
        at, bit = rng.randrange(10, len(archive)), 1 << rng.randrange(8)
        damaged = archive[:at] + bytes([archive[at] ^ bit]) + archive[at + 1 :]
        with pytest.raises(ValueError):
            format_reader.read(damaged)
        with pytest.raises((slipstick.CorruptArchiveError, slipstick.UnsupportedError, slipstick.LimitExceededError)):
            logs.decompress(damaged)
    for size in (0, 9, len(archive) // 2, len(archive) - 1):
        with pytest.raises(ValueError):
            format_reader.read(archive[:size])


def development_logs():
    data = Path(__file__).parents[3] / "shared" / "data"
    return sorted(data.glob("loghub/*.log"))


@pytest.mark.long
@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("path", development_logs(), ids=lambda path: path.stem)
def test_beginnings_of_development_logs(path, level):
    raw = path.read_bytes()[:20_000]
    assert format_reader.read(logs.compress(raw, level=level)) == raw
