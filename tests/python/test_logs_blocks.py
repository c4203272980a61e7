# Contract: archives can be joined, gone on with and taken out of damaged files; whatever happens on the way, what was there is still there.
# The oracle is the raw bytes, cut and put together by Python.
from __future__ import annotations

import fcntl
import importlib
import json
import mmap
import os
import random
import signal
import time

import pytest

import slipstick
from slipstick import logs

cli = importlib.import_module("slipstick.cli")
assemble = importlib.import_module("slipstick.logs._assemble")
core = importlib.import_module("slipstick._core").logs

SEED = 20261126


def made_log(lines, seed=SEED):
    made = random.Random(seed)
    return b"".join(
        b"2026-11-26 10:%02d:%02d %s worker-%d took %d ms\n"
        % (i // 60 % 60, i % 60, made.choice((b"INFO", b"WARN")), made.randrange(9), made.randrange(5000))
        for i in range(lines)
    )


OLD, NEW = made_log(800), made_log(500, 1)


# append


@pytest.mark.parametrize("level", logs.LEVELS)
def test_append_gives_the_old_bytes_and_the_new_ones(run, tmp_path, level):
    archive = tmp_path / "app.slip"
    archive.write_bytes(logs.compress(OLD, level=level))
    (tmp_path / "a.log").write_bytes(NEW)
    (tmp_path / "b.log").write_bytes(b"no feed")
    os.chmod(archive, 0o640)
    os.utime(archive, (0, 0))
    assert run("append", "app.slip", "a.log", "b.log") == (0, b"", "")
    assert logs.decompress(archive.read_bytes()) == OLD + NEW + b"no feed"
    assert archive.stat().st_mode & 0o777 == 0o640
    assert archive.stat().st_mtime > 10**9
    assert sorted(os.listdir(tmp_path)) == ["a.log", "app.slip", "b.log"]
    with logs.Archive(archive) as opened:
        assert opened.info()["level"] == level
        assert opened.info()["blocks"] == 1  # small pieces are packed together
    # Inside a line, and once more
    assert run("append", "app.slip", "a.log") == (0, b"", "")
    assert logs.decompress(archive.read_bytes()) == OLD + NEW + b"no feed" + NEW


def test_large_blocks_are_kept_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(assemble, "SMALL_BLOCK_BYTES", len(OLD))
    packed = logs.compress(OLD)
    once = b"".join(assemble.appended(packed, [NEW], level="fast"))
    assert once.startswith(packed)
    twice = b"".join(assemble.appended(once, [b"more\n"]))
    assert twice.startswith(packed)
    assert logs.decompress(twice) == OLD + NEW + b"more\n"
    assert core.Archive(twice).block_count == 2
    assert logs.decompress(b"".join(assemble.appended(logs.compress(b""), [NEW]))) == NEW
    assert logs.decompress(b"".join(assemble.appended(packed, []))) == OLD


def test_append_refuses_what_it_cannot_go_on_with_and_leaves_it(run, tmp_path):
    (tmp_path / "a.log").write_bytes(NEW)
    packed = logs.compress(OLD)
    (tmp_path / "short.slip").write_bytes(packed[:-3])
    (tmp_path / "app.slip").write_bytes(packed)
    status, _, errors = run("append", "short.slip", "a.log")
    assert status == 2 and "truncated" in errors
    assert run("append", "a.log", "a.log")[::2] == (2, "slipstick: a.log: is not a slipstick archive\n")
    assert run("append", "missing.slip", "a.log")[::2] == (2, "slipstick: missing.slip: No such file or directory\n")
    assert run("append", "app.slip", "missing")[::2] == (2, "slipstick: missing: No such file or directory\n")
    assert run("append", "app.slip", "app.slip")[::2] == (2, "slipstick: app.slip: input app.slip: is an archive; concat joins archives\n")
    assert run("append")[::2] == (2, "slipstick: append: no ARCHIVE given; see slipstick append --help\n")
    assert (tmp_path / "app.slip").read_bytes() == packed
    assert (tmp_path / "short.slip").read_bytes() == packed[:-3]
    assert sorted(os.listdir(tmp_path)) == ["a.log", "app.slip", "short.slip"]


def test_a_failed_append_leaves_no_lock_while_its_error_is_kept(tmp_path):
    # As an interactive Python keeps it: the error keeps the frames, and they the mapping of the archive.
    path = tmp_path / "app.slip"
    path.write_bytes(logs.compress(OLD))
    with pytest.raises(ZeroDivisionError) as kept, assemble.replaced(path) as (file, _):
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        1 // 0
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert kept.tb and mapping[:5] == b"\x89SLIP"


@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.long)])
def test_a_killed_append_leaves_a_readable_archive(tmp_path, kills):
    made = random.Random(SEED)
    archive = tmp_path / "app.slip"
    raw, packed = OLD, logs.compress(OLD, level="fast")
    (tmp_path / "new.log").write_bytes(made_log(20_000, 2))
    added = (tmp_path / "new.log").read_bytes()

    def append():
        child = os.fork()
        if child == 0:
            try:
                os._exit(cli.main(["append", "-q", str(archive), str(tmp_path / "new.log")]))
            finally:
                os._exit(99)
        return child

    archive.write_bytes(packed)
    begin = time.monotonic()
    assert os.waitpid(append(), 0)[1] == 0
    duration = time.monotonic() - begin
    assert logs.decompress(archive.read_bytes()) == raw + added
    outcomes = set()
    for _ in range(kills):
        archive.write_bytes(packed)
        child = append()
        time.sleep(made.random() * duration * 1.1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        content = logs.decompress(archive.read_bytes())
        assert content in (raw, raw + added)
        with logs.Archive(archive) as opened:
            assert len(opened) == content.count(b"\n")
        outcomes.add(content == raw)
    assert True in outcomes


def test_appends_at_the_same_time_wait_for_each_other(tmp_path):
    archive = tmp_path / "app.slip"
    archive.write_bytes(logs.compress(b"first\n"))
    children = []
    for number in range(4):
        (tmp_path / f"{number}.log").write_bytes(b"line of %d\n" % number * 50)
        child = os.fork()
        if child == 0:
            try:
                os._exit(cli.main(["append", "-q", str(archive), str(tmp_path / f"{number}.log")]))
            finally:
                os._exit(99)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    lines = logs.decompress(archive.read_bytes()).splitlines()
    assert sorted(lines) == sorted([b"first"] + [b"line of %d" % number for number in range(4)] * 50)


# concat


def test_concat_joins_the_blocks_of_archives(run, tmp_path):
    contents = [OLD, b"", b"inside a li", b"ne\n", NEW]
    for number, raw in enumerate(contents):
        (tmp_path / f"{number}.slip").write_bytes(logs.compress(raw, level=logs.LEVELS[number % 2]))
    names = [f"{number}.slip" for number in range(5)]
    assert run("concat", "-o", "all.slip", *names) == (0, b"", "")
    packed = (tmp_path / "all.slip").read_bytes()
    assert logs.decompress(packed) == b"".join(contents)
    with logs.Archive(tmp_path / "all.slip") as archive:
        assert archive.info()["blocks"] == 4
        assert list(archive) == b"".join(contents).splitlines(keepends=True)
    status, out, _ = run("concat", "-o", "-", *names)
    assert (status, out) == (0, packed)


def test_concat_with_a_bad_archive_writes_nothing(run, tmp_path):
    (tmp_path / "good.slip").write_bytes(logs.compress(OLD))
    (tmp_path / "bad.slip").write_bytes(logs.compress(OLD)[:-1])
    status, out, errors = run("concat", "-o", "all.slip", "bad.slip", "good.slip")
    assert (status, out) == (2, b"") and errors.startswith("slipstick: bad.slip: ")
    assert run("concat", "good.slip")[::2] == (2, "slipstick: concat: no output given; -o names it; see slipstick concat --help\n")
    assert sorted(os.listdir(tmp_path)) == ["bad.slip", "good.slip"]


# recover


def archive_in_parts(count, level="fast"):
    """An archive of several blocks, with the offset of each and its raw bytes."""
    raws = [made_log(60, seed) for seed in range(count)]
    packed = [logs.compress(raw, level=level) for raw in raws]
    joined = b"".join(assemble.joined(level, [assemble.Blocks(each, core.Archive(each)) for each in packed]))
    archive = core.Archive(joined)
    return joined, [archive.block(index) for index in range(count)], raws


def test_recover_gives_the_blocks_that_damage_did_not_reach():
    made = random.Random(SEED)
    joined, blocks, raws = archive_in_parts(6)
    for _ in range(60):
        damaged = bytearray(joined)
        begin = made.randrange(len(joined))
        end = min(len(joined), begin + made.choice((1, 1, 20, 3000)))
        damaged[begin:end] = made.choice((b"", bytes(end - begin), made.randbytes(end - begin), b"\1" * 50))
        whole = [raw for raw, block in zip(raws, blocks) if block["offset"] + block["archive_bytes"] <= begin or block["offset"] >= end]
        archive = core.Archive(bytes(damaged), recover=True)
        got = [archive.decompress_block(index) for index in range(archive.block_count)]
        assert got == whole or got == raws  # zeros may have been there before
        repaired = b"".join(assemble.joined(archive.level, [assemble.Blocks(bytes(damaged), archive)]))
        assert logs.decompress(repaired) == b"".join(got)


def test_recover_finds_blocks_in_any_data_and_says_what_it_found(run, tmp_path):
    joined, blocks, raws = archive_in_parts(3)
    image = b"\1\1\1 disk " * 40 + joined[: blocks[2]["offset"] + 10] + b"tail"
    (tmp_path / "disk.img").write_bytes(image)
    kept = blocks[0]["archive_bytes"] + blocks[1]["archive_bytes"]
    status, out, errors = run("recover", "disk.img")
    raw = len(raws[0] + raws[1])
    assert (
        errors == f"slipstick: disk.img: 2 whole blocks, {raw} raw bytes; {len(image) - kept} of {len(image)} bytes are in none of them\n"
    )
    assert (status, out) == (0, b"")
    assert logs.decompress((tmp_path / "disk.img.recovered.slip").read_bytes()) == raws[0] + raws[1]
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "none").write_bytes(b"\1" * 1000)
    assert run("recover", "none", "empty")[::2] == (
        2,
        "slipstick: none: has no whole block in its 1000 bytes\nslipstick: empty: has no whole block in its 0 bytes\n",
    )
    (tmp_path / "app.slip").write_bytes(joined[:-1])
    assert run("recover", "-q", "app.slip") == (0, b"", "")
    assert logs.decompress((tmp_path / "app.recovered.slip").read_bytes()) == b"".join(raws)


# Lines, templates, grep from Python


def test_cat_lines_gives_lines_as_sed_counts_them(run, tmp_path):
    joined, _, raws = archive_in_parts(4)
    (tmp_path / "app.slip").write_bytes(joined)
    (tmp_path / "open.slip").write_bytes(logs.compress(b"a\nb") + logs.compress(b"c") + logs.compress(b"d\ne\nf"))
    lines = b"".join(raws).splitlines(keepends=True)
    for words, wanted in (("1:3", lines[:3]), ("60:61", lines[59:61]), ("200:", lines[199:]), (":5", lines[:5]), ("-7:", lines[-7:]), ("100", lines[99:100]),
                          ("500:600", []), ("9:2", []), ("1:999", lines)):  # fmt: skip
        assert run("cat", f"--lines={words}", "app.slip") == (0, b"".join(wanted), "")
    for words, wanted in (("1:1", b"a\n"), ("2:2", b"bcd\n"), ("2:3", b"bcd\ne\n"), ("4:", b"f"), ("-1:", b"f"), ("-3:", b"bcd\ne\nf")):
        assert run("cat", f"--lines={words}", "open.slip") == (0, wanted, "")
    for words, message in (("0:3", "has a line 0; lines are counted from 1"), ("x", "is no range of lines; expected A:B, A:, :B, A, or -N: for the last N"),
                           ("-3:2", "mixes both ends; expected -N: for the last N lines")):  # fmt: skip
        status, _, errors = run("cat", f"--lines={words}", "app.slip")
        assert status == 2 and message in errors
    assert run("cat", "--lines", "1:9", "--max-output", "20", "app.slip")[0] == 2
    assert run("cat", "--lines", "1:9", "--max-memory", "20", "app.slip")[0] == 2


def test_templates_are_counted_with_their_share(run, tmp_path):
    raw = b"".join(b"user %d logged in\n" % i if i % 4 else b"disk %d is full\n" % i for i in range(400))
    (tmp_path / "app.slip").write_bytes(logs.compress(raw))
    status, out, _ = run("templates", "--json", "app.slip")
    found = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(each["template"], each["count"], each["share"], each["example"]) for each in found] == [
        ("user <*> logged in", 300, 0.75, "user 1 logged in"),
        ("disk <*> is full", 100, 0.25, "disk 0 is full"),
    ]
    status, out, _ = run("templates", "-m", "1", "app.slip")
    assert out.decode().splitlines()[1:] == [f"{300:>12} {'75.00%':>7}  user <*> logged in", " " * 22 + "user 1 logged in"]


def test_archive_grep_yields_numbers_and_lines(tmp_path):
    path = tmp_path / "app.slip"
    path.write_bytes(logs.compress(OLD + b"end 77"))
    lines = (OLD + b"end 77").splitlines(keepends=True)
    with logs.Archive(path) as archive:
        wanted = [(number, line) for number, line in enumerate(lines) if b"WARN" in line]
        assert list(archive.grep("WARN|nothing")) == wanted
        assert list(archive.grep(b"warn", ignore_case=True, syntax="fixed", threads=2)) == wanted
        assert [number for number, _ in archive.grep("WARN", invert=True)] == [n for n, line in enumerate(lines) if b"WARN" not in line]
        assert list(archive.grep("end.*|[0-9]{3,} ms$", only_matching=True))[-1] == (800, b"end 77")
        with pytest.raises(slipstick.UnsupportedError, match="back-reference"):
            archive.grep(r"(a)\1")
        with pytest.raises(ValueError, match="syntax is 'perl'; expected 'basic', 'extended' or 'fixed'"):
            archive.grep("a", syntax="perl")
        with pytest.raises(TypeError, match="pattern is int; expected str or bytes"):
            archive.grep(7)


# compress: folders, and many files into one


def test_compress_packs_folders_each_file_or_all_into_one(run, tmp_path):
    for name, raw in (("a.log", OLD), ("sub/b.log", NEW), ("sub/deep/c", b"c\n"), ("d.slip", b"x"), (".slipstick-1.tmp", b"half")):
        (tmp_path / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / name).write_bytes(raw)
    os.symlink("a.log", tmp_path / "logs" / "link")
    assert run("compress", "-r", "--into", "all.slip", "logs") == (0, b"", "")
    assert logs.decompress((tmp_path / "all.slip").read_bytes()) == OLD + NEW + b"c\n"
    assert run("compress", "-r", "logs") == (0, b"", "")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "logs").rglob("*.slip"))
    assert found == ["logs/a.log.slip", "logs/d.slip", "logs/sub/b.log.slip", "logs/sub/deep/c.slip"]
    assert logs.decompress((tmp_path / "logs/sub/b.log.slip").read_bytes()) == NEW
    status, out, _ = run("compress", "--into", "-", "logs/a.log", "logs/sub/b.log")
    assert (status, logs.decompress(out)) == (0, OLD + NEW)
    assert run("compress", "--into", "all.slip", "logs/a.log")[::2] == (2, "slipstick: all.slip: exists; -f overwrites it\n")
    assert run("compress", "--into", "logs/a.log", "-f", "logs/a.log")[::2] == (2, "slipstick: logs/a.log: is the input logs/a.log too\n")
    assert run("compress", "--into", "new.slip", "logs/a.log", "missing")[::2] == (2, "slipstick: missing: No such file or directory\n")
    assert run("compress", "--into", "new.slip", "logs")[::2] == (
        2,
        "slipstick: new.slip: input logs: is a directory; -r packs the files in it\n",
    )
    assert run("compress", "--into", "new.slip", "-o", "x", "logs/a.log")[0] == 2
    assert not (tmp_path / "new.slip").exists()


# columns


def test_columns_are_arrays_of_what_varies(tmp_path):
    import numpy as np

    made = random.Random(SEED)
    rows = [
        (i * 3, made.randrange(10**9), made.randrange(86400), bytes(made.choices(b"klmnopqrst", k=made.randrange(3, 9))))
        for i in range(500)
    ]
    raw = b"".join(
        b"#%06d at %02d:%02d:%02d,%03d took %d.%06d by user=%s\nnoise of %d\n"
        % (n, s // 3600, s // 60 % 60, s % 60, n % 1000, t // 10**6, t % 10**6, who, n)
        for n, t, s, who in rows
    )
    (tmp_path / "app.slip").write_bytes(logs.compress(raw) + logs.compress(raw, level="fast"))
    with logs.Archive(tmp_path / "app.slip") as archive:
        templates = {each["text"]: each for each in archive.templates()}
        assert b"noise of <*>" in templates and len(templates) == 2
        (text,) = templates.keys() - {b"noise of <*>"}
        assert templates[text]["count"] == 1000
        columns = archive.columns(text)
        assert columns["line"].tolist() == list(range(0, 2000, 2))
        by_kind = {array.dtype.kind: array for name, array in columns.items() if name != "line"}
        assert by_kind["i"].tolist() == [n for n, *_ in rows] * 2
        assert by_kind["f"].tolist() == [t / 10**6 for _, t, *_ in rows] * 2
        assert by_kind["m"].tolist() == [(s * 1000 + n % 1000) * 10**6 for n, _, s, _ in rows] * 2
        assert by_kind["S"].tolist() == [who for *_, who in rows] * 2
        assert archive.columns("noise of <*>")["0"].tolist() == [n for n, *_ in rows] * 2
        assert list(archive.columns(b"nothing <*>")) == ["line"]
        assert archive.columns(text)["line"].dtype == np.int64
        with pytest.raises(TypeError, match="template is int; expected str or bytes"):
            archive.columns(3)
