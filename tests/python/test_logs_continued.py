# Contract: no input becomes more than 1 KiB larger than zstd -3 makes it as a whole, also where its parts come again over the ends of blocks;
# for that a block may continue the one before it, and everything that reads blocks reads it. Oracles: zstandard, the raw bytes, and a
# small archive written here as FORMAT.md lays it out.
import base64
import random

import pytest
import zstandard
from format_reader import read
from format_reader.numbers import hash32, hash64

import slipstick
from slipstick import logs
from slipstick._core import logs as core

SEED = 20261126
BLOCK = core.BLOCK_BYTES
MADE = random.Random(SEED)
HEX_LINES = [b"%064x\n" % MADE.getrandbits(256) for _ in range(400)]


# An archive of small blocks, written by hand


def varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def stream(codec, packed, size):
    return bytes([codec]) + varint(size) + varint(len(packed)) + packed


def block(method, raw, payload):
    fields = bytes([method]) + varint(len(raw)) + varint(raw.count(b"\n") << 1) + varint(len(payload))
    fields += hash64(raw).to_bytes(8, "little") + hash32(payload).to_bytes(4, "little")
    head = b"\1" + varint(len(fields)) + fields
    return head + hash32(head).to_bytes(4, "little") + payload


def continued(raw, prefix, repeats=(), literals=None):
    literals = raw if literals is None else literals
    words = b"".join(varint(number) for repeat in repeats for number in repeat)
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    packed = zstandard.ZstdCompressor(dict_data=dictionary).compress(literals) if literals else b""
    return block(5, raw, stream(0, words, len(words)) + stream(4 if literals else 0, packed, len(literals)))


def archive(blocks, raws):
    footer = b"\2" + varint(len(blocks))
    for each, raw in zip(blocks, raws, strict=True):
        footer += varint(len(each)) + varint(len(raw)) + varint(raw.count(b"\n") << 1)
    footer += hash32(footer).to_bytes(4, "little")
    return bytes.fromhex("89534C49500D0A1A0100") + b"".join(blocks) + footer + (len(footer) + 12).to_bytes(8, "little") + b"PILS"


def small_archive():
    first = b"".join(HEX_LINES)
    second = first[130:] + b"one line more\n"  # zstd alone
    third = second[-1014:] * 9 + b"new\n" + second[:650]  # repeats that overlap, reach into the prefix, and leave literals
    repeats = [(0, 1014 * 9, 1014), (4, 650, len(second) + 4 + 1014 * 9)]
    fourth = second + b"the end\n"
    raws = [first, second, third, first, fourth]
    blocks = [
        block(0, first, first),
        continued(second, first),
        continued(third, second, repeats, b"new\n"),
        block(0, first, first),
        continued(fourth, first),
    ]
    return archive(blocks, raws), blocks, raws


def test_continued_blocks_are_read_as_the_format_says(tmp_path, run):
    packed, _, raws = small_archive()
    whole = b"".join(raws)
    assert read(packed) == whole
    for threads in (1, 2, 3):
        assert logs.decompress(packed, threads=threads) == whole
    lines = whole.splitlines(keepends=True)
    (tmp_path / "a.slip").write_bytes(packed)
    with logs.Archive(tmp_path / "a.slip") as opened:
        assert opened.info()["continued"] == 3 and opened.info()["blocks"] == 5
        assert list(opened) == lines
        for start, stop in ((len(lines) - 2, None), (0, 3), (399, 403), (790, 830), (5, 5)):
            assert list(opened.lines(start, stop)) == lines[start:stop]
        for pattern in ("one line more|the end", "^00"):
            wanted = [(n, line) for n, line in enumerate(lines) if b"one line more" in line or b"the end" in line or line.startswith(b"00")]
            wanted = [each for each in wanted if each[1].startswith(b"00") == (pattern == "^00")]
            for threads in (1, 2, 3):
                assert list(opened.grep(pattern, threads=threads)) == wanted
    status, out, _ = run("info", "a.slip")
    assert status == 0 and b"blocks     5 (3 continue the one before), level fast" in out
    assert run("test", "a.slip")[0] == 0
    assert run("cat", "--lines=-1:", "a.slip") == (0, b"the end\n", "")
    assert run("concat", "-o", "twice.slip", "a.slip", "a.slip")[0] == 0
    assert logs.decompress((tmp_path / "twice.slip").read_bytes()) == whole * 2 == read((tmp_path / "twice.slip").read_bytes())
    (tmp_path / "more").write_bytes(b"more\n")
    assert run("append", "a.slip", "more")[0] == 0
    assert logs.decompress((tmp_path / "a.slip").read_bytes()) == whole + b"more\n"


def test_recover_says_which_blocks_are_lost_with_another(tmp_path, run):
    packed, blocks, raws = small_archive()
    damaged = bytearray(packed)
    damaged[10 + len(blocks[0]) - 5] ^= 1
    (tmp_path / "a.slip").write_bytes(damaged)
    status, _, errors = run("recover", "a.slip")
    assert status == 0 and "slipstick: a.slip: 2 whole blocks, " in errors
    assert errors.endswith("slipstick: a.slip: 2 more blocks continue one that is lost, and are lost with it\n")
    assert logs.decompress((tmp_path / "a.recovered.slip").read_bytes()) == raws[3] + raws[4]


def test_damaged_continued_blocks_are_refused():
    _, blocks, raws = small_archive()
    first, second = raws[:2]

    def refuse(blocks, raws, message):
        packed = archive(blocks, raws)
        for unpack in (logs.decompress, lambda data: core.Archive(data).decompress_block(len(blocks) - 1)):
            with pytest.raises(slipstick.CorruptArchiveError, match=message):
                unpack(packed)
        with pytest.raises(ValueError):
            read(packed)

    refuse(blocks[1:2], raws[1:2], "continues the block before it, but is the first of its archive")
    refuse([blocks[0], blocks[0], blocks[2]], [first, first, raws[2]], "checksum|damaged")
    for repeat in ((0, 0, 1), (0, 5, 0), (0, len(second) + 1, 1), (0, 5, len(first) + 1), (7, 5, 1)):
        refuse([blocks[0], continued(second, first, [repeat], b"abc")], [first, second], "repeat of what is not there|ends early")
    refuse([blocks[0], continued(second, first, [(0, 5, 1)], second)], [first, second], "another size than stated")
    text = block(2, second, stream(0, b"", 0) + stream(4, b"", 0))
    refuse([blocks[0], text], [first, second], "continues nothing")


def test_limits_know_of_continued_blocks(run, tmp_path):
    packed, _, raws = small_archive()
    (tmp_path / "a.slip").write_bytes(packed)
    memory = max(core.Archive(packed).block(index)["decoding_memory"] for index in range(5))
    assert memory > 2 * 2**21  # a prefix, twice
    for command in (("cat",), ("cat", "--lines=-1:"), ("grep", "the end")):
        assert run(command[0], "--max-memory", str(memory), *command[1:], "a.slip")[0] == 0
        assert run(command[0], "--max-memory", str(memory - 1), *command[1:], "a.slip")[0] == 2
    assert run("cat", "--max-output", str(len(b"".join(raws)) - 1), "a.slip")[0] == 2


# What is written


def zstd_size(raw):
    stream = zstandard.ZstdCompressor(level=3).compressobj()  # which knows no size and forgets the beginning
    return min(len(zstandard.ZstdCompressor(level=3).compress(raw)), len(stream.compress(raw)) + len(stream.flush()))


def shuffled(pieces, size):
    made = random.Random(SEED)
    out = bytearray()
    while len(out) < size:
        out += b"".join(made.choices(pieces, k=1000))
    return bytes(out)


def lines_of(count, made):
    return b"".join(b"%064x\n" % made.getrandbits(256) for _ in range(count))


def log_of(count):
    return b"".join(b"May %2d 10:%02d:%02d host app[%d]: job %x took %d ms\n" % (i % 28 + 1, i // 60 % 60, i % 60, i % 7, i * i * 40503 % 2**40, i * 7919 % 5000) for i in range(count))  # fmt: skip


# Of each some blocks' worth.
LARGE = {
    "periodic bytes": lambda: random.Random(1).randbytes(1_500_000) * 50,
    "periodic hex lines": lambda: lines_of(23_000, random.Random(2)) * 48,
    "periodic log": lambda: log_of(20_000) * 70,
    "records in random order": lambda: shuffled([random.Random(n).randbytes(1000) for n in range(1500)], 70_000_000),
    "lines in random order": lambda: shuffled([b"%064x\n" % random.Random(n).getrandbits(256) for n in range(20_000)], 70_000_000),
    "random bytes": lambda: random.Random(3).randbytes(70_000_000),
    "random hex lines": lambda: lines_of(1_100_000, random.Random(4)),
    "zeros": lambda: bytes(200_000_000),
    "one line": lambda: b"GET /index.html 200\n" * 5_000_000,
    "mixed": lambda: b"".join((random.Random(n).randbytes(40_000), log_of(500), HEX_LINES[n % 400] * 300)[n % 3] for n in range(2500)),
}


@pytest.mark.long
@pytest.mark.parametrize("level", ["fast", "default"])
@pytest.mark.parametrize("name", LARGE)
def test_no_large_input_is_larger_than_zstd_3_plus_a_kibibyte(name, level):
    raw = LARGE[name]()
    assert len(raw) > 1.5 * BLOCK
    packed = logs.compress(raw, level=level, threads=1)
    assert len(packed) <= zstd_size(raw) + 1024
    for threads in (2, 3):
        assert logs.compress(raw, level=level, threads=threads) == packed
        assert logs.decompress(packed, threads=threads) == raw


def test_what_repeats_over_the_end_of_a_block_is_packed_once():
    raw = random.Random(1).randbytes(1_500_000) * 50
    packed = logs.compress(raw, level="fast", threads=1)
    assert len(packed) <= zstd_size(raw) + 1024
    opened = core.Archive(packed)
    assert [opened.block(i)["method"] for i in range(opened.block_count)] == ["trimmed", "continued", "continued"]
    for threads in (2, 3):
        assert logs.compress(raw, level="fast", threads=threads) == packed
        assert logs.decompress(packed, threads=threads) == raw


def test_blocks_of_a_log_stay_independent():
    raw = log_of(1_000_000)
    opened = core.Archive(logs.compress(raw, level="fast"))
    assert opened.block_count == 2 and not opened.block(1)["continued"]


def random_blocks(seed, bytes_of_block=BLOCK):
    made = random.Random(seed)
    return b"".join(made.randbytes(bytes_of_block) for _ in range(25))


# What only zstd packs, and packs as well as it can: of each 25 blocks.
DENSE = {
    "zeros": lambda: bytes(25 * BLOCK),
    "base64 without lines": lambda: base64.b64encode(random_blocks(5, BLOCK // 4 * 3)),
    "sixteen symbols": lambda: random_blocks(6).translate(bytes(range(16)) * 16),
    "periodic bytes": lambda: random.Random(7).randbytes(1 << 20) * 800,
    "random bytes": lambda: random_blocks(8),
}


@pytest.mark.long
@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("name", DENSE)
def test_no_number_of_blocks_makes_an_archive_larger_than_zstd_3_plus_a_kibibyte(name, level):
    raw = DENSE[name]()
    assert len(raw) >= 25 * BLOCK
    packed = logs.compress(raw, level=level, threads=2)
    assert len(packed) <= zstd_size(raw) + 1024
    assert logs.decompress(packed, threads=2) == raw


def test_a_block_more_takes_less_than_zstd_3_takes_for_it():
    for raw in (bytes(3 * BLOCK), base64.b64encode(random.Random(5).randbytes(3 * BLOCK // 4 * 3))):
        sizes = [(len(logs.compress(part, level="fast")), zstd_size(part)) for part in (raw[: 2 * BLOCK], raw)]
        assert sizes[1][0] - sizes[0][0] + 100 < sizes[1][1] - sizes[0][1]


def alphabets(size):
    """Text of which each 128 KiB, a block of zstd's, has an alphabet of its own, and few line ends: blocks of an archive end at one."""
    made = random.Random(10)
    out = bytearray()
    while len(out) < size:
        symbols = bytes(made.sample(range(32, 127), 24))
        out += made.randbytes(1 << 17).translate((symbols * 11)[:256])
        for _ in range(20):
            out[-made.randrange(1, 1 << 17)] = 10
    return bytes(out)


def test_blocks_of_zstd_begin_where_they_do_in_the_whole():
    raw = alphabets(2 * BLOCK + 1000)
    packed = logs.compress(raw, level="fast", threads=1)
    opened = core.Archive(packed)
    assert opened.block_count == 3 and opened.block(0)["raw_bytes"] % (1 << 17) != 0
    assert len(packed) <= zstd_size(raw) + 1024
    assert logs.compress(raw, level="fast", threads=2) == packed and logs.decompress(packed) == raw


def fragments(size):
    """Lines of fragments that come again in other lines: repeats for zstd, new strings for a model."""
    made = random.Random(9)
    pieces = [made.randbytes(500).hex().encode() for _ in range(600)]
    out = []
    while size > 0:
        out.append(b" ".join(made.choices(pieces, k=9)) + b"\n")
        size -= len(out[-1])
    return b"".join(out)


@pytest.mark.parametrize("log_first", [True, False])
def test_a_log_at_one_end_of_a_block_does_not_hide_the_rest(log_first):
    log, rest = log_of(20_000)[: 1 << 20], fragments(31 << 20)
    raw = log + rest if log_first else rest + log
    packed = logs.compress(raw, level="fast", threads=1)
    assert len(packed) <= zstd_size(raw) + 1024
    assert logs.decompress(packed) == raw
