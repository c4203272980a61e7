"""Contract: the public Python of slipstick.logs. Bytes come back equal, through functions, file objects and Archive alike;
arguments that do not fit are refused by name; a file that could not be written whole is not there.
"""

from __future__ import annotations

import array
import doctest
import importlib
import io
import os
import random
import subprocess
import sys
import threading

import pytest

import slipstick
from slipstick import logs
from slipstick.logs import _codec

zstandard = pytest.importorskip("zstandard")

# Run once per level by .ci/kernels. Whatever is raised while an object is torn down is a bug too.
pytestmark = [pytest.mark.kernel, pytest.mark.filterwarnings("error")]

SEED = 77


def make_log(lines: int) -> bytes:
    made = random.Random(SEED)
    return b"".join(
        b"May  1 12:%02d:%02d host sshd[%d]: session %s for user%d\n"
        % (i // 60 % 60, i % 60, made.randrange(30000), made.choice([b"opened", b"closed"]), made.randrange(40))
        for i in range(lines)
    )


LOG = make_log(3000)

AWKWARD = {
    "nothing": b"",
    "one byte": b"x",
    "one line end": b"\n",
    "no final line end": b"a 1\nb 2",
    "CRLF": b"a 1\r\nb 2\r\n" * 50,
    "mixed ends": b"a\rb\nc\r\nd\n\re\x0bf\x1cg\xc2\x85h\n" * 20,
    "NULs": b"a\0b\n\0\0\n" * 20,
    "invalid UTF-8": b"caf\xe9 \xff\xfe\n" * 20,
    "random": random.Random(SEED).randbytes(5000),
    "a log": LOG,
}


SEVERAL_BLOCKS = b"".join(b"%d %s" % (i, line) for i in range(210) for line in io.BytesIO(LOG))


@pytest.fixture(scope="module")
def several_blocks(tmp_path_factory):
    """An archive of more than one block, which hold up to 32 MiB each."""
    path = tmp_path_factory.mktemp("logs") / "several.slip"
    path.write_bytes(logs.compress(SEVERAL_BLOCKS, level="fast"))
    return path


@pytest.fixture
def archive_path(tmp_path):
    path = tmp_path / "app.slip"
    path.write_bytes(logs.compress(LOG))
    return path


# Functions


@pytest.mark.parametrize("level", logs.LEVELS)
@pytest.mark.parametrize("name", AWKWARD)
def test_every_byte_comes_back(name, level):
    data = AWKWARD[name]
    packed = logs.compress(data, level=level)
    assert type(packed) is bytes
    assert logs.decompress(packed) == data


def test_levels_are_named_from_fast():
    assert logs.LEVELS[:2] == ("fast", "default")


def test_threads_change_no_byte():
    data = LOG * 30
    packed = {logs.compress(data, threads=threads) for threads in (None, 1, 2, 3, 7)}
    assert len(packed) == 1
    assert {logs.decompress(*packed, threads=threads) for threads in (None, 1, 2, 3, 7)} == {data}


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: array.array("B", data), io.BytesIO.getbuffer])
def test_any_buffer_is_taken(make):
    source = make(io.BytesIO(LOG)) if make is io.BytesIO.getbuffer else make(LOG)
    packed = logs.compress(source)
    assert packed == logs.compress(LOG)
    assert logs.decompress(bytearray(packed)) == LOG


def test_a_buffer_of_wider_items_is_its_bytes():
    assert logs.decompress(logs.compress(array.array("I", range(1000)))) == array.array("I", range(1000)).tobytes()
    assert logs.decompress(logs.compress(array.array("I"))) == b""


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: logs.compress("text"), TypeError, "compress: data is str; expected a bytes-like object (encode it first)"),
        (lambda: logs.compress(None), TypeError, "compress: data is NoneType; expected a bytes-like object"),
        (lambda: logs.decompress(7), TypeError, "decompress: data is int; expected a bytes-like object"),
        (lambda: logs.compress(memoryview(b"abcd")[::2]), ValueError, "compress: data is not contiguous; expected a C-contiguous buffer"),
        (lambda: logs.compress(b"", level="best"), ValueError, "compress: level is 'best'; expected one of 'fast', 'default'"),
        (lambda: logs.compress(b"", level=3), TypeError, "compress: level is int; expected a str, one of 'fast', 'default'"),
        (lambda: logs.compress(b"", threads=0), ValueError, "compress: threads is 0; expected a whole number from 1 to 1024, or None"),
        (
            lambda: logs.decompress(b"", threads=-2),
            ValueError,
            "decompress: threads is -2; expected a whole number from 1 to 1024, or None",
        ),
        (lambda: logs.compress(b"", threads=2.0), TypeError, "compress: threads is 2.0; expected a whole number"),
        (lambda: logs.compress(b"", threads=True), TypeError, "compress: threads is True; expected a whole number"),
        (lambda: logs.decompress(b"", max_output=0), ValueError, "decompress: max_output is 0; expected a positive int or None"),
        (lambda: logs.decompress(b"", max_output="1G"), TypeError, "decompress: max_output is str; expected a positive int or None"),
        (lambda: logs.open("x", "r"), ValueError, "open: mode is 'r'; expected one of 'rb', 'rt', 'wb', 'wt', 'xb', 'xt'"),
        (lambda: logs.open("x", "ab"), ValueError, "open: mode is 'ab'; expected one of"),
        (lambda: logs.open("x", "rb", encoding="utf-8"), ValueError, "open: encoding is 'utf-8' but mode is 'rb'; expected a text mode"),
        (lambda: logs.open("x", "wb", newline=""), ValueError, "open: newline is '' but mode is 'wb'; expected a text mode"),
        (lambda: logs.open("x", "wb", level="no"), ValueError, "open: level is 'no'; expected one of 'fast', 'default'"),
        (lambda: logs.open("x", "wb", threads=0), ValueError, "open: threads is 0; expected a whole number from 1 to 1024, or None"),
        (lambda: logs.open("x", "wb", threads=9999), ValueError, ""),  # the core's own limit, met before a file is made
    ],
)
def test_arguments_that_do_not_fit_are_named(call, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("bad", [b"", b"plain text\n" * 100, logs.compress(LOG)[:-1], logs.compress(LOG)[:40], b"\0" + logs.compress(LOG)])
def test_what_is_no_whole_archive_is_corrupt(bad):
    with pytest.raises(slipstick.CorruptArchiveError):
        logs.decompress(bad)


def test_max_output_is_a_limit_not_a_hint():
    packed = logs.compress(LOG)
    assert logs.decompress(packed, max_output=len(LOG)) == LOG
    with pytest.raises(slipstick.LimitExceededError):
        logs.decompress(packed, max_output=len(LOG) - 1)


# open


def test_a_file_object_gives_bytes_lines(archive_path):
    wanted = LOG.splitlines(keepends=True)
    with logs.open(archive_path) as file:
        assert list(file) == wanted
    with logs.open(str(archive_path)) as file:
        assert file.readlines() == wanted
    with logs.open(os.fsencode(archive_path), "rb") as file:
        assert file.readline() == wanted[0]
        rest = LOG[len(wanted[0]) :]
        assert [file.read(100), file.peek(1)[:1], file.read()] == [rest[:100], rest[100:101], rest[100:]]
        assert file.read() == b""
        assert (file.readable(), file.writable(), file.seekable()) == (True, False, False)
    assert file.closed


def test_a_text_file_reads_as_the_plain_file_would(tmp_path):
    data = "naïve\r\nplain\nlast".encode()
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "packed").write_bytes(logs.compress(data))
    for newline in (None, "", "\n"):
        with (
            open(tmp_path / "plain", encoding="utf-8", newline=newline) as plain,
            logs.open(tmp_path / "packed", "rt", newline=newline) as packed,
        ):
            assert packed.readlines() == plain.readlines()
    with logs.open(tmp_path / "packed", "rt", encoding="latin-1") as packed:
        assert packed.readline() == "naÃ¯ve\n"


def test_text_that_is_not_utf8_raises_unless_errors_says_what_to_do(tmp_path):
    (tmp_path / "packed").write_bytes(logs.compress(b"ok\nbad \xff\n"))
    with logs.open(tmp_path / "packed", "rt") as file, pytest.raises(UnicodeDecodeError):
        file.read()
    with logs.open(tmp_path / "packed", "rt", errors="surrogateescape") as file:
        assert file.read().encode(errors="surrogateescape") == b"ok\nbad \xff\n"


@pytest.mark.parametrize("level", logs.LEVELS)
def test_what_is_written_is_the_archive_that_compress_makes(tmp_path, level):
    path = tmp_path / "out.slip"
    with logs.open(path, "wb", level=level) as file:
        for start in range(0, len(LOG), 777):
            assert file.write(LOG[start : start + 777]) == len(LOG[start : start + 777])
        assert not path.exists(), "the name appears at close"
    assert path.read_bytes() == logs.compress(LOG, level=level)
    assert os.listdir(tmp_path) == ["out.slip"]


def test_text_is_written_with_its_encoding(tmp_path):
    with logs.open(tmp_path / "out.slip", "wt", newline="") as file:
        file.write("naïve\n")
        print("two", 2, file=file)
    assert logs.decompress((tmp_path / "out.slip").read_bytes()) == "naïve\ntwo 2\n".encode()


@pytest.mark.parametrize("mode", ["wb", "wt", "xb"])
def test_a_body_that_raises_leaves_nothing(tmp_path, mode):
    if mode != "xb":
        (tmp_path / "out.slip").write_bytes(b"older")
    before = os.listdir(tmp_path)
    with pytest.raises(KeyError), logs.open(tmp_path / "out.slip", mode) as file:
        file.write("text" if mode == "wt" else b"bytes")
        raise KeyError("the caller's own trouble")
    assert file.closed
    assert os.listdir(tmp_path) == before
    if before:
        assert (tmp_path / "out.slip").read_bytes() == b"older"


@pytest.mark.parametrize("wrong", [{"encoding": "no such"}, {"errors": "no such"}, {"newline": "x"}])
def test_a_text_file_that_cannot_be_made_touches_nothing(tmp_path, wrong):
    (tmp_path / "out.slip").write_bytes(b"older")
    with pytest.raises((LookupError, ValueError)):
        logs.open(tmp_path / "out.slip", "wt", **wrong)
    assert (tmp_path / "out.slip").read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["out.slip"]


def test_exclusive_mode_refuses_a_file_that_exists(tmp_path):
    (tmp_path / "out.slip").write_bytes(b"older")
    with pytest.raises(FileExistsError):
        logs.open(tmp_path / "out.slip", "xb")
    assert (tmp_path / "out.slip").read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["out.slip"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_raises(tmp_path):
    file = logs.open("/dev/full", "wb")
    file.write(LOG)
    with pytest.raises(OSError, match="No space left"):
        file.close()
    assert file.closed


def test_file_objects_are_used_where_they_stand_and_stay_open():
    stream = io.BytesIO()
    stream.write(b"before")
    with logs.open(stream, "wb") as file:
        file.write(LOG)
    assert stream.getvalue() == b"before" + logs.compress(LOG)
    stream.seek(len(b"before"))
    with logs.open(stream, "rt") as file:
        assert file.read() == LOG.decode()
    assert not stream.closed


def test_damage_raises_and_keeps_raising(tmp_path):
    packed = logs.compress(LOG)
    (tmp_path / "short").write_bytes(packed[:-1])
    with logs.open(tmp_path / "short") as file:
        for _ in range(2):  # the second time it must not look like the end of the file
            with pytest.raises(slipstick.CorruptArchiveError):
                file.read()


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        logs.open(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        logs.open(tmp_path / "none" / "out.slip", "wb")


def test_reading_takes_no_more_of_an_archive_than_it_needs(several_blocks):
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 512))

    packed = several_blocks.read_bytes()
    stream = Slow(packed)
    with logs.open(stream, threads=1) as file:
        file.read(1)
    assert stream.tell() < 0.95 * len(packed)


# Archive


def test_archive_gives_any_lines(archive_path):
    wanted = LOG.splitlines(keepends=True)
    with logs.Archive(archive_path) as archive:
        assert len(archive) == len(wanted)
        assert list(archive) == wanted
        for start, stop in [(0, 1), (0, 0), (5, 3), (17, 1234), (2999, 3000), (2999, 9999), (9999, None), (None, 3), (-2, None), (-5, -2)]:
            assert list(archive.lines(start, stop)) == wanted[start:stop]


@pytest.mark.parametrize("name", AWKWARD)
def test_archive_lines_end_at_newlines_only(tmp_path, name):
    data = AWKWARD[name]
    (tmp_path / "a").write_bytes(logs.compress(data))
    with logs.Archive(tmp_path / "a") as archive:
        wanted = list(io.BytesIO(data))
        assert list(archive) == wanted
        assert len(archive) == archive.info()["lines"] == len(wanted)


def test_archive_decodes_only_the_blocks_it_needs(several_blocks, monkeypatch):
    wanted = SEVERAL_BLOCKS.splitlines(keepends=True)
    with logs.Archive(several_blocks) as archive:
        assert len(archive) == len(wanted)
        middle = len(wanted) // 2
        assert list(archive.lines(middle, middle + 3)) == wanted[middle : middle + 3]
        blocks = archive._core().block_count
        firsts = [archive._core().block(i)["first_line"] for i in range(blocks)]
        assert blocks > 1, "the test wants several blocks"
        for first in firsts:
            start = max(first - 2, 0)
            assert list(archive.lines(start, first + 2)) == wanted[start : first + 2]
        counted = CountingCore(archive._archive)
        monkeypatch.setattr(archive, "_archive", counted)
        list(archive.lines(firsts[1], firsts[1] + 1))
        assert counted.decoded == [1]


@pytest.mark.parametrize("level", logs.LEVELS)
def test_archive_lines_may_be_longer_than_blocks(tmp_path, level):
    data = b"first\n" + b"x" * (70 << 20) + b"\nthird\n" + b"y" * (40 << 20)
    (tmp_path / "a").write_bytes(logs.compress(data, level=level))
    wanted = list(io.BytesIO(data))
    with logs.Archive(tmp_path / "a") as archive:
        assert archive.info()["blocks"] > 1, "the test wants a line over several blocks"
        assert len(archive) == archive.info()["lines"] == 4
        for start in range(4):
            assert next(archive.lines(start)) == wanted[start], start
        assert list(archive) == wanted


class CountingCore:
    def __init__(self, core):
        self._core = core
        self.decoded = []

    def decompress_block(self, index):
        self.decoded.append(index)
        return self._core.decompress_block(index)

    def __getattr__(self, name):
        return getattr(self._core, name)


@pytest.mark.parametrize("level", logs.LEVELS)
def test_archive_info_adds_up(tmp_path, level):
    path = tmp_path / "a"
    path.write_bytes(logs.compress(LOG, level=level))
    with logs.Archive(path) as archive:
        info = archive.info()
    assert info["raw_bytes"] == len(LOG)
    assert info["archive_bytes"] == path.stat().st_size
    assert info["lines"] == 3000
    assert info["blocks"] == 1
    assert info["level"] == level
    for stream in info["streams"]:
        assert set(stream) >= {"name", "kind", "raw_bytes", "archive_bytes", "values"}
    accounted = sum(stream["archive_bytes"] for stream in info["streams"])
    assert accounted == sum(info["categories"].values())
    assert abs(accounted - info["archive_bytes"]) <= len(info["streams"]) + 16, "rounding of each, and the coder's last bytes"


def test_archive_templates_count_their_lines(archive_path):
    with logs.Archive(archive_path) as archive:
        templates = archive.templates()
        assert len(templates) == archive.info()["templates"]
    assert templates
    for template in templates:
        assert isinstance(template["text"], bytes)
        assert template["count"] >= 1
        assert template["example"] in LOG
    assert sum(template["count"] for template in templates) <= 3000


def test_archive_is_closed_after_use(archive_path):
    archive = logs.Archive(archive_path)
    lines = archive.lines(0, 2)
    first = next(lines)
    archive.close()
    archive.close()
    assert [first, *lines] == LOG.splitlines(keepends=True)[:2], "an iterator in use keeps the file"
    for call in (archive.info, archive.templates, archive.lines, archive.__len__):
        with pytest.raises(ValueError, match="is closed"):
            call()


@pytest.mark.parametrize("bad", [b"", b"plain text\n" * 100, logs.compress(LOG)[:-3]])
def test_archive_of_something_else_is_corrupt(tmp_path, bad):
    (tmp_path / "bad").write_bytes(bad)
    with pytest.raises(slipstick.CorruptArchiveError):
        logs.Archive(tmp_path / "bad")
    with pytest.raises(FileNotFoundError):
        logs.Archive(tmp_path / "none")


# The examples of the docstrings


@pytest.mark.parametrize("name", ["slipstick.logs", "slipstick.logs._archive"])
def test_examples_run_as_written(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


# The codec under the core


def test_codec_gives_the_same_bytes_from_every_thread():
    frames = [_codec.compress(LOG, 3)]

    def work():
        for _ in range(20):
            frame = _codec.compress(LOG, 3)
            assert _codec.decompress(frame, len(LOG)) == LOG
            frames.append(frame)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(frames) == 81
    assert len(set(frames)) == 1


def test_codec_believes_no_frame_that_lies_about_its_size():
    frame = _codec.compress(bytes(1 << 20), 3)
    sized = zstandard.ZstdCompressor(level=3).compress(bytes(1 << 20))
    unsized = zstandard.ZstdCompressor(level=3, write_content_size=False).compress(bytes(1 << 20))
    assert _codec.decompress(frame, 1 << 20) == bytes(1 << 20)
    for bad in (sized, unsized, frame):
        for raw_size in (0, 1, 1000, (1 << 20) - 1, (1 << 20) + 1):
            with pytest.raises(slipstick.CorruptArchiveError):
                _codec.decompress(bad, raw_size)


def test_codec_refuses_damage_and_what_follows_a_frame():
    frame = _codec.compress(LOG, 3)
    for bad in (b"", b"junk", frame[:-1], frame[:3], frame + b"x", frame + frame, bytes(20)):
        with pytest.raises(slipstick.CorruptArchiveError):
            _codec.decompress(bad, len(LOG))
    assert _codec.decompress(_codec.compress(b"", 1), 0) == b""
    with pytest.raises(slipstick.CorruptArchiveError):
        _codec.decompress(_codec.compress(b"x", 1), 0)


def test_logs_import_neither_numpy_nor_scipy_nor_torch():
    code = (
        "import sys; from slipstick import logs; before = set(sys.modules); logs.decompress(logs.compress(b'a 1\\n' * 99));"
        "print(sorted(before & {'numpy', 'scipy', 'torch', 'zstandard'}), sorted({'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[] []\n"
