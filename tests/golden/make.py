"""Makes the golden archives that are missing: each is made once and then never again.

    python tests/golden/make.py

Archives written by any earlier slipstick must decode for ever, so what stands here is read by tests and not rewritten.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from slipstick import logs

HERE = Path(__file__).parent


def congruence(state: int) -> Iterator[int]:
    """Endless numbers of 64 bits, of which the high ones look random. Not random's, whose streams may change with Python."""
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state


def small_log() -> bytes:
    """200 lines with every kind of slot, mixed line ends and no final line feed."""
    lines = []
    for i in range(200):
        second = i % 60
        lines.append(
            f"Nov {i // 20:2d} 12:{i // 60:02d}:{second:02d} host app[{1000 + i % 3}]: request {i} took {i * 37 % 1000}.{i % 1000:03d} ms\n"
        )
        lines.append(f'10.0.{i % 4}.{i % 250} "GET /item/{i % 7}" id=0x{i * 2654435761 % 2**32:08x} at 23:59:{second:02d},{i:03d}\r\n')
    return "".join(lines).encode() + b"\x00odd\xff end"


def random_bytes() -> bytes:
    """Bytes that no method makes smaller."""
    return bytes(number >> 56 for number in islice(congruence(1), 300))


def noisy_log() -> bytes:
    """500 lines with noise enough for a block whose header has records for searches."""
    numbers = islice(congruence(1), 500)
    lines = (f"2026-11-25 {i // 60 % 24:02d}:{i % 60:02d}:07 worker {i % 9} stored block {x:016x}\n" for i, x in enumerate(numbers))
    return "".join(lines).encode()


def session_log() -> bytes:
    """150 lines of a few processes at a time: values that come back within a session, drifting numbers, names, times, long words."""
    numbers, lines, jobs = congruence(7), [], {}

    def below(count: int) -> int:
        return (next(numbers) >> 33) % count

    for i in range(150):
        process = 2000 + 37 * below(5)
        head = f"Nov 25 {8 + i // 50:02d}:{i % 60:02d}:{below(60):02d}.{below(1000):03d} node{i // 50} app[{process}]: "
        job, user = jobs.setdefault(process, (below(10**9), f"user{below(9)}"))
        step = below(5)
        if step == 0:
            lines.append(f"{head}accepted {user} from 10.{below(3)}.0.{below(250)} port {1024 + below(60000)}\n")
        elif step == 1:
            lines.append(f"{head}job {job} of {user} runs on {below(2**32):08X}, try {i // 7:05d}\n")
        elif step == 2:
            lines.append(f"{head}job {job} took {below(10**6) / 1000:.3f} ms, code {(0, 0, 0, 1, 255)[below(5)]}\n")
        elif step == 3:
            lines.append(f'{head}reads "/srv/{user}/part-{below(10):03d}/shard-of-{below(10**12)}.dat" of {i * 4096} bytes\r\n')
        else:
            lines.append(f"{head}state of {jobs.pop(process)[1]} is {('up', 'down', 'gone', 'lost')[below(4)]}, {i} jobs so far\n")
    return "".join(lines).encode()


def wide_log(count: int) -> bytes:
    """Lines of statistics: many counters behind the same names, each with a pace of its own."""
    numbers, lines, counters = congruence(3), [], [0] * 21
    for i in range(count):
        for counter in range(21):
            counters[counter] += (counter * counter * 997 + 31) * (90 + (next(numbers) >> 33) % 20) // 100
        parts = (f'{{"received":{a},"delivered":{b},"abandoned":{c}}}' for a, b, c in zip(*[iter(counters)] * 3, strict=True))
        lines.append(f'{{"at":{1764000000 + 5 * i},"parts":[{",".join(parts)}]}}\n')
    return "".join(lines).encode()


def periodic() -> bytes:
    """A little more than a block of a period that does not divide it: the second block continues the first."""
    period = b"".join(b"%02x" % byte for byte in random_bytes()) + b"\n"
    return (period * (33 * 2**20 // len(period))) + random_bytes() + period


def digest_log() -> bytes:
    """300 lines with a digest, an identifier or a key that look random, some of which come again."""
    numbers, lines = congruence(11), []

    def bits(count: int) -> int:
        number = 0
        for _ in range(0, count, 32):
            number = number << 32 | next(numbers) >> 32
        return number >> -count % 32

    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    for i in range(300):
        digest, kind = f"{bits(256):064x}", i % 5
        if kind == 0:
            lines.append(f"layer sha256:{digest} pulled\n")
        elif kind == 1:
            lines.append(f"GET /packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/part-{i}.whl\n")
        elif kind == 2:
            lines.append(f"request {digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]} done\r\n")
        elif kind == 3:
            lines.append(f"commit {digest[:40].upper()} of {digest[40:47]}\n")
        else:
            key = "".join((digits + ("+/" if i % 2 else "-_"))[bits(6)] for _ in range(86))
            lines.append(f'integrity "sha512-{key}=="\n' + lines[bits(32) % len(lines)].replace("e", "e again", 1))
    return "".join(lines).encode()


def contents() -> dict[str, tuple[bytes, str]]:
    """Name of each golden archive, its raw bytes and its level."""
    return {
        "v1_fast.slip": (small_log(), "fast"),
        "v1_default.slip": (small_log(), "default"),
        "v1_stored.slip": (random_bytes(), "default"),
        "v1_zstd.slip": (bytes(range(256)) * 40, "default"),
        "v1_empty.slip": (b"", "default"),
        "v1_records.slip": (noisy_log(), "default"),
        "v1_max.slip": (session_log(), "max"),
        "v1_by_slot.slip": (wide_log(60), "default"),
        "v1_by_slot_fast.slip": (wide_log(60), "fast"),
        "v1_continued.slip": (periodic(), "fast"),
        "v1_trimmed.slip": (bytes(range(256)) * (33 * 2**12) + random_bytes().hex().encode(), "fast"),  # and a continued block's literals
        "v1_by_slot_max.slip": (wide_log(20), "max"),  # the reader of the tests is slow
        "v1_digits.slip": (digest_log(), "default"),
        "v1_digits_fast.slip": (digest_log(), "fast"),
    }


if __name__ == "__main__":
    for name, (raw, level) in contents().items():
        if not (HERE / name).exists():
            (HERE / name).write_bytes(logs.compress(raw, level=level))
