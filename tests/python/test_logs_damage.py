# Contract: damage costs the blocks that it is in and those behind it, never whole ones in front, for any number of threads; and what the command
# line cannot do to one input it says of that input, without touching another's archive.
from __future__ import annotations

import gzip
import subprocess
import sys

import pytest
from format_reader.numbers import hash32, hash64

import slipstick
from slipstick import logs
from slipstick._core import logs as core

COMMAND = [sys.executable, "-m", "slipstick.cli"]
TEXTS = [b"block %d line\n" % i * 50 for i in range(4)]


def run(folder, *words):
    result = subprocess.run([*COMMAND, *words], cwd=folder, capture_output=True)
    return result.returncode, result.stdout, result.stderr.decode()


def joined(damage):
    """Four archives of a block each, one after the other, and where the damage goes in the second: a payload byte or a block header's."""
    archives = [bytearray(logs.compress(text, level="fast")) for text in TEXTS]
    footer = int.from_bytes(archives[1][-12:-4], "little")
    archives[1][-footer - 3 if damage == "payload" else 12] ^= 1
    return b"".join(archives)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("damage", ["payload", "header"])
def test_whole_blocks_in_front_of_damage_are_given(tmp_path, damage, threads):
    (tmp_path / "a.slip").write_bytes(joined(damage))
    status, out, errors = run(tmp_path, "cat", "-j", str(threads), "a.slip")
    assert (status, out) == (2, TEXTS[0])
    assert errors.count("\n") == 1 and "a.slip" in errors
    with logs.open(tmp_path / "a.slip", "rb", threads=threads) as file:
        assert file.read(len(TEXTS[0])) == TEXTS[0]
        with pytest.raises(slipstick.CorruptArchiveError):
            file.read()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_lines_in_front_of_damage_are_found(tmp_path, threads):
    (tmp_path / "a.slip").write_bytes(joined("payload"))
    status, out, errors = run(tmp_path, "grep", "-j", str(threads), "line", "a.slip")
    assert (status, out) == (2, TEXTS[0])
    assert "a.slip" in errors


def test_an_archive_made_in_this_run_is_not_overwritten(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_bytes(b"plain\n")
    (tmp_path / "logs" / "a.log.gz").write_bytes(gzip.compress(b"packed\n"))
    for words in (("-r", "logs"), ("logs/a.log", "logs/a.log.gz")):
        status, _, errors = run(tmp_path, "compress", "-f", *words)
        assert status == 2
        assert errors == "slipstick: logs/a.log.gz: logs/a.log.slip is the archive of another input already\n"
        assert logs.decompress((tmp_path / "logs" / "a.log.slip").read_bytes()) == b"plain\n"


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "logs" / "closed").mkdir(parents=True)
    (tmp_path / "logs" / "a.log").write_bytes(b"a\n")
    code = """if True:
        import os, sys
        from slipstick import cli
        walk = os.walk
        def refusing(path, onerror):
            onerror(PermissionError(13, "Permission denied", "logs/closed"))
            return walk(path)
        os.walk = refusing  # root would be let in
        sys.exit(cli.main(sys.argv[1:]))
    """
    for words, made in ((["compress", "-r", "logs"], ["a.log.slip"]), (["compress", "-f", "-r", "--into", "all.slip", "logs"], [])):
        result = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (2, "slipstick: logs/closed: Permission denied\n")
        assert [path.name for path in tmp_path.rglob("*.slip")] == made
        (tmp_path / "logs" / "a.log.slip").unlink(missing_ok=True)


def test_a_bad_input_is_named_and_not_the_archive(tmp_path):
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"hello\n")[:15])
    archive = logs.compress(b"old\n")
    (tmp_path / "x.slip").write_bytes(archive)
    for words in (("append", "x.slip", "bad.gz"), ("compress", "--into", "new.slip", "bad.gz")):
        status, _, errors = run(tmp_path, *words)
        assert status == 2 and ": input bad.gz: gzip data ends before its end mark\n" in errors
    assert (tmp_path / "x.slip").read_bytes() == archive
    assert not (tmp_path / "new.slip").exists()


def test_patterns_that_repeat_nothing_are_small(tmp_path):
    with_line = tmp_path / "a.slip"
    with_line.write_bytes(logs.compress(b"one\n"))
    with logs.Archive(with_line) as archive:
        for pattern in ("(((){32767}){32767}){32767}one", "((a{0}){32767}){32767}one", "(((()()){32767}){32767}){32767}one"):
            assert [line for _, line in archive.grep(pattern, syntax="extended")] == [b"one\n"]


def test_templates_that_look_alike_have_columns_of_their_own(tmp_path):
    lines = [
        b"job <*> took %d ms end\n" % (i * 7919 % 1000) if i % 3 else b"job %d took %d ms end\n" % (i * 31 % 997, i * 7919 % 1000)
        for i in range(600)
    ]
    (tmp_path / "a.slip").write_bytes(logs.compress(b"".join(lines)))
    with logs.Archive(tmp_path / "a.slip") as archive:
        for text, count in ((b"job <*> took <*> ms end", 200), (rb"job <\*> took <*> ms end", 400)):
            assert text in {template["text"] for template in archive.templates()}
            assert {len(array) for array in archive.columns(text).values()} == {count}


def varint(number):
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_an_error_of_zstd_can_be_asked_for_again():
    # A block with right checksums whose zstd frame is none, behind a whole one.
    raw, frame = b"hello world\n" * 10, b"\x28\xb5\x2f\xfdgarbage"
    fields = b"\x01" + varint(len(raw)) + varint(10 << 1) + varint(len(frame)) + hash64(raw).to_bytes(8, "little")
    fields += hash32(frame).to_bytes(4, "little")
    head = b"\x01" + varint(len(fields)) + fields
    block = head + hash32(head).to_bytes(4, "little") + frame
    decompressor = core.Decompressor(1)
    decompressor.feed(logs.compress(b"", level="fast")[:10] + block)
    for _ in range(3):
        with pytest.raises(slipstick.CorruptArchiveError, match="zstd frame"):
            decompressor.next()
