"""Contract: the command `slipstick` behaves as its help says, on standard output, standard error, in its exit status and
in what it leaves on the disk. Most tests are transcripts: a line "$ COMMAND" is run by sh in a scratch folder, then come
the lines of standard output, "2> " and a line of standard error, and "? STATUS" where it is not 0.
"""

from __future__ import annotations

import bz2
import fcntl
import gzip
import hashlib
import importlib
import io
import json
import lzma
import os
import pty
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import termios
import textwrap
import time

import pytest

import slipstick
from slipstick import logs

zstandard = pytest.importorskip("zstandard")
cli = importlib.import_module("slipstick.cli")
progress = importlib.import_module("slipstick.cli._progress")
options = importlib.import_module("slipstick.cli._options")

COMMAND = [sys.executable, "-m", "slipstick.cli"]
SEED = 20240501


def make_log(lines: int) -> bytes:
    made = random.Random(SEED)
    return b"".join(
        b"2024-05-01 12:%02d:%02d INFO worker-%d job %d took %d ms\n" % (i // 60 % 60, i % 60, made.randrange(8), i, made.randrange(1000))
        for i in range(lines)
    )


LOG = make_log(2000)


@pytest.fixture(scope="session")
def shell_environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "slipstick"
    command.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    environment = dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}", LC_ALL="C.UTF-8")
    environment.pop("COLUMNS", None)
    return environment


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.log").write_bytes(LOG)
    return tmp_path


@pytest.fixture
def transcript(folder, shell_environment):
    """Runs a transcript in the scratch folder, which holds app.log, and compares it with what happens."""

    def check(text: str) -> None:
        wanted = textwrap.dedent(text).strip().split("\n")
        happened = []
        for line in wanted:
            if line.startswith("$ "):
                result = subprocess.run(
                    ["sh", "-c", line[2:]], cwd=folder, env=shell_environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
                )
                happened.append(line)
                happened.extend(result.stdout.splitlines())
                happened.extend(f"2> {line}" for line in result.stderr.splitlines())
                happened.extend([f"? {result.returncode}"] if result.returncode else [])
        assert happened == wanted, "\n".join(["", "--- happened", *happened, "--- wanted", *wanted])

    return check


def run(*words, cwd, **options):
    return subprocess.run([*COMMAND, *words], cwd=cwd, capture_output=True, **options)


# What it does


def test_compress_and_decompress_give_the_file_back_and_keep_their_sources(transcript):
    transcript("""
        $ cp app.log original
        $ slipstick compress app.log
        $ rm app.log
        $ slipstick decompress app.log.slip
        $ cmp app.log original
        $ ls -A
        app.log
        app.log.slip
        original
    """)


def test_python_reads_what_the_command_writes_and_the_other_way_round(folder):
    assert run("compress", "app.log", cwd=folder).returncode == 0
    assert logs.decompress((folder / "app.log.slip").read_bytes()) == LOG
    (folder / "other.slip").write_bytes(logs.compress(b"one line"))
    assert run("cat", "other.slip", cwd=folder).stdout == b"one line"


def test_dash_packs_and_unpacks_streams(transcript):
    transcript("""
        $ slipstick compress - < app.log > packed
        $ slipstick decompress - < packed | cmp - app.log
        $ cat app.log | slipstick compress -l fast -o named.slip -
        $ slipstick cat - < named.slip | cmp - app.log
        $ slipstick compress < app.log | slipstick decompress | cmp - app.log
        $ slipstick decompress -o - named.slip | cmp - app.log
        $ slipstick compress -o - app.log | cmp - packed
        $ ls -A
        app.log
        named.slip
        packed
    """)


def test_cat_writes_archives_one_after_the_other(transcript):
    transcript("""
        $ printf 'one\\n' | slipstick compress -o 1.slip
        $ printf 'two' | slipstick compress -o 2.slip
        $ slipstick cat 1.slip 2.slip 1.slip
        one
        twoone
    """)


def test_test_tells_which_archives_are_whole(transcript):
    transcript(f"""
        $ slipstick compress -o good.slip app.log
        $ head -c -20 good.slip > short.slip
        $ slipstick test -q good.slip
        $ slipstick test good.slip
        good.slip: whole, {len(LOG)} bytes
        $ slipstick test -q short.slip 2> /dev/null
        ? 2
        $ ls -A
        app.log
        good.slip
        short.slip
    """)


def test_info_gives_the_figures_of_the_library_as_json(folder):
    run("compress", "app.log", cwd=folder)
    run("compress", "-l", "fast", "-o", "b.slip", "app.log", cwd=folder)
    result = run("info", "--json", "app.log.slip", "b.slip", cwd=folder)
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["path"], second["path"]) == ("app.log.slip", "b.slip")
    assert first["raw_bytes"] == len(LOG)
    assert first["lines"] == 2000
    assert first["archive_bytes"] == (folder / "app.log.slip").stat().st_size
    assert first["ratio"] == len(LOG) / first["archive_bytes"]
    with logs.Archive(folder / "app.log.slip") as archive:
        assert archive.info() == {key: value for key, value in first.items() if key not in ("path", "ratio")}


def test_info_says_where_the_bytes_went(folder):
    run("compress", "app.log", cwd=folder)
    with logs.Archive(folder / "app.log.slip") as archive:
        info = archive.info()
    result = run("info", "--all", "app.log.slip", "app.log.slip", cwd=folder)
    text = result.stdout.decode()
    assert text.startswith("app.log.slip\n")
    assert f"{len(LOG):,} bytes, 2,000 lines" in text
    assert f"{info['archive_bytes']:,} bytes, ratio {len(LOG) / info['archive_bytes']:.2f}" in text
    for name in [*info["categories"], *(stream["name"] for stream in info["streams"])]:
        assert name in text
    assert text.splitlines()[-1].startswith("2 archives: ")
    assert (result.returncode, result.stderr) == (0, b"")


def test_info_lists_the_largest_streams_and_counts_the_rest():
    info = importlib.import_module("slipstick.cli.info")
    streams = [{"name": f"stream {i}", "kind": "text", "raw_bytes": 100, "archive_bytes": i} for i in range(40)]
    sizes = {"raw_bytes": 4000, "archive_bytes": 900, "lines": 1, "blocks": 1, "continued": 0, "templates": 1}
    figures = {**sizes, "level": "fast", "version": 1}
    text = info._format("x.slip", {**figures, "categories": {}, "streams": streams}, info.STREAMS_SHOWN)
    assert "stream 39 (text)" in text and "stream 24 (text)" in text
    assert "stream 23 (text)" not in text
    assert "and 24 smaller streams (-a shows them)" in text


def test_info_folds_to_the_terminal(folder):
    info = importlib.import_module("slipstick.cli.info")
    run("compress", "app.log", cwd=folder)
    with logs.Archive(folder / "app.log.slip") as archive:
        figures = archive.info()
    for columns, lines_wide in ((40, 40), (30, 40), (61, 61), (200, 200)):
        status, shown = on_terminal(
            ["info", "-a", "app.log.slip", "app.log.slip"], folder, subprocess.DEVNULL, stdout_too=True, columns=columns
        )
        text = shown.replace("\r\n", "\n")
        assert status == 0
        assert max(map(len, text.splitlines())) <= lines_wide
        assert text.split() == run("info", "-a", "app.log.slip", "app.log.slip", cwd=folder).stdout.decode().split() or columns < 61
        for stream in figures["streams"]:
            assert " ".join(f"{stream['name']} ({stream['kind']})".split()) in " ".join(text.split())
            assert f"{stream['raw_bytes']:,}" in text
    huge = {"raw_bytes": 10**11, "archive_bytes": 10**10, "lines": 10**9, "blocks": 10**4, "continued": 9, "templates": 10**6}
    huge |= {"level": "default", "version": 1, "categories": {"text": 10**10}}
    huge["streams"] = [{"name": "template numbers", "kind": "text", "raw_bytes": 10**11, "archive_bytes": 10**10}] * 2
    assert max(map(len, info._format("x.slip", huge, 1, 40).splitlines())) <= 40


# Manners: what is never overwritten, left behind or mixed up


def test_existing_outputs_are_kept_without_force(transcript):
    transcript("""
        $ echo old > app.log.slip
        $ slipstick compress app.log
        2> slipstick: app.log.slip: exists; -f overwrites it
        ? 2
        $ cat app.log.slip
        old
        $ slipstick compress -o app.log.slip app.log
        2> slipstick: app.log.slip: exists; -f overwrites it
        ? 2
        $ slipstick compress -f app.log
        $ slipstick decompress app.log.slip
        2> slipstick: app.log: exists; -f overwrites it
        ? 2
        $ echo changed > app.log
        $ slipstick decompress --force app.log.slip
        $ slipstick cat app.log.slip | cmp - app.log
        $ ls -A
        app.log
        app.log.slip
    """)


def test_a_name_taken_while_we_work_is_not_overwritten(folder):
    atomic = importlib.import_module("slipstick.logs._atomic")
    file = atomic.AtomicFile(folder / "new", overwrite=False)
    file.write(b"ours")
    (folder / "new").write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        file.commit()
    assert (folder / "new").read_bytes() == b"theirs"
    assert sorted(os.listdir(folder)) == ["app.log", "new"]


def test_the_source_is_never_the_output(transcript):
    transcript("""
        $ slipstick compress -f -o app.log app.log
        2> slipstick: app.log: output is the input; give another name with -o
        ? 2
        $ ln app.log same
        $ slipstick compress -f -o same app.log
        2> slipstick: app.log: output is the input; give another name with -o
        ? 2
    """)


def test_one_bad_file_does_not_stop_the_others(transcript):
    transcript("""
        $ cp app.log b.log
        $ mkdir dir
        $ slipstick compress missing.log dir app.log b.log
        2> slipstick: missing.log: No such file or directory
        2> slipstick: dir: is a directory; expected a file
        ? 2
        $ echo junk > junk.slip
        $ slipstick cat junk.slip app.log.slip dir | cmp - app.log
        2> slipstick: junk.slip: is not a slipstick archive
        2> slipstick: dir: is a directory; expected a file
        $ slipstick info -- junk.slip - missing
        2> slipstick: junk.slip: is not a slipstick archive
        2> slipstick: -: is a stream; info needs a file
        2> slipstick: missing: No such file or directory
        ? 2
        $ ls -A
        app.log
        app.log.slip
        b.log
        b.log.slip
        dir
        junk.slip
    """)


def test_archives_are_known_by_their_first_bytes():
    assert logs.compress(b"").startswith(importlib.import_module("slipstick.logs._foreign").MAGIC)


def test_archives_are_not_packed_twice_by_mistake(transcript):
    transcript("""
        $ slipstick compress app.log
        $ slipstick compress app.log.slip
        2> slipstick: app.log.slip: is a slipstick archive already; -f packs it once more
        ? 2
        $ slipstick compress -f app.log.slip
        $ slipstick cat app.log.slip.slip | cmp - app.log.slip
    """)


def test_inputs_of_the_wrong_kind_are_named_for_what_they_are(transcript):
    transcript("""
        $ gzip -k app.log
        $ slipstick decompress app.log.gz
        2> slipstick: app.log.gz: is gzip data, not a slipstick archive
        ? 2
        $ slipstick test app.log
        2> slipstick: app.log: is not a slipstick archive
        ? 2
        $ slipstick cat - < /dev/null
        2> slipstick: -: is empty, not a slipstick archive
        ? 2
        $ slipstick compress -o packed app.log
        $ slipstick decompress packed
        2> slipstick: packed: name does not end in .slip; give the output's name with -o
        ? 2
        $ mkfifo pipe
        $ slipstick compress pipe
        2> slipstick: pipe: is not a regular file; give -o OUT, or read it through -
        ? 2
        $ cat app.log > pipe & slipstick compress -o piped.slip pipe
        $ slipstick cat piped.slip | cmp - app.log
    """)


def test_a_damaged_archive_points_to_recover(transcript):
    transcript("""
        $ slipstick compress app.log
        $ head -c 100 app.log.slip > cut.slip
        $ slipstick test cut.slip
        2> slipstick: cut.slip: archive: the input is truncated: it ends at byte 100, inside an archive; slipstick recover saves what whole blocks it has
        ? 2
        $ slipstick recover cut.slip
        2> slipstick: cut.slip: has no whole block in its 100 bytes
        ? 2
        $ slipstick recover app.log.slip 2>&1 | sed 's/blocks*, .*/block/'
        slipstick: app.log.slip: 1 whole block
    """)


def test_what_needs_a_file_says_so(transcript):
    transcript("""
        $ slipstick info
        2> slipstick: info: no FILE given; see slipstick info --help
        ? 2
        $ slipstick info -
        2> slipstick: -: is a stream; info needs a file
        ? 2
    """)


def test_devices_are_written_not_replaced(transcript):
    transcript("""
        $ slipstick compress -o /dev/null app.log
        $ test -c /dev/null
        $ mkfifo pipe
        $ cat pipe > packed & slipstick compress -f -o pipe app.log; wait
        $ slipstick cat packed | cmp - app.log
        $ test -p pipe
    """)


def test_failed_work_leaves_no_output_and_keeps_the_older_one(transcript, folder):
    run("compress", "app.log", cwd=folder)
    whole = (folder / "app.log.slip").read_bytes()
    (folder / "short.slip").write_bytes(whole[: len(whole) // 2])
    (folder / "short").write_bytes(b"older")
    result = run("decompress", "-f", "short.slip", cwd=folder)
    assert result.returncode == 2
    assert result.stdout == b""
    message = result.stderr.decode()
    assert message.startswith("slipstick: short.slip: ") and message.count("\n") == 1
    assert (folder / "short").read_bytes() == b"older"
    assert sorted(os.listdir(folder)) == ["app.log", "app.log.slip", "short", "short.slip"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_an_error(transcript):
    transcript("""
        $ slipstick compress app.log
        $ slipstick cat app.log.slip > /dev/full
        2> slipstick: standard output: No space left on device
        ? 2
        $ slipstick test app.log.slip > /dev/full
        2> slipstick: standard output: No space left on device
        ? 2
        $ slipstick compress -o /dev/full app.log
        2> slipstick: /dev/full: No space left on device
        ? 2
        $ slipstick decompress -o /dev/full app.log.slip
        2> slipstick: /dev/full: No space left on device
        ? 2
        $ slipstick --help > /dev/full
        2> slipstick: standard output: No space left on device
        ? 2
        $ PYTHONUNBUFFERED=1 slipstick --help > /dev/full
        2> slipstick: standard output: No space left on device
        ? 2
    """)


def test_a_closed_standard_stream_is_an_error_and_no_wait(transcript):
    transcript("""
        $ slipstick compress app.log
        $ slipstick compress - <&- > x.slip
        2> slipstick: -: Bad file descriptor
        ? 2
        $ slipstick cat <&-
        2> slipstick: -: Bad file descriptor
        ? 2
        $ slipstick cat app.log.slip <&- >&-
        2> slipstick: standard output: Bad file descriptor
        ? 2
        $ slipstick grep '' app.log.slip <&- >&-
        2> slipstick: standard output: Bad file descriptor
        ? 2
        $ slipstick info app.log.slip >&-
        2> slipstick: standard output: Bad file descriptor
        ? 2
        $ slipstick --help >&-
        2> slipstick: standard output: Bad file descriptor
        ? 2
        $ slipstick compress -f app.log 2>&-
        $ slipstick cat app.log.slip | cmp - app.log
    """)


def test_empty_values_are_told_and_not_taken_for_none(transcript):
    transcript("""
        $ slipstick compress app.log
        $ slipstick compress -f -o '' app.log
        2> slipstick: compress: -o/--output: is empty; see slipstick compress --help
        ? 2
        $ slipstick cat --after '' app.log.slip
        2> slipstick: cat: --after: is empty; see slipstick cat --help
        ? 2
        $ slipstick compress -f -j 99999 app.log
        2> slipstick: compress: -j/--threads: '99999' is too many; expected at most 1024; see slipstick compress --help
        ? 2
        $ ls
        app.log
        app.log.slip
    """)


def test_values_may_begin_with_a_minus(transcript):
    transcript("""
        $ slipstick compress app.log
        $ tail -n 2 app.log > wanted
        $ slipstick cat --lines -2: app.log.slip | cmp - wanted
    """)


def test_recover_reads_a_named_pipe_once(transcript):
    transcript("""
        $ slipstick compress app.log
        $ mkfifo pipe
        $ cat app.log.slip > pipe & slipstick recover -q -o whole.slip pipe
        $ slipstick cat whole.slip | cmp - app.log
    """)


def test_a_closed_pipe_ends_quietly(transcript):
    transcript(f"""
        $ slipstick compress app.log
        $ {{ slipstick cat app.log.slip; echo $? > status; }} | head -1
        {LOG.splitlines()[0].decode()}
        $ cat status
        0
        $ {{ slipstick cat app.log.slip app.log.slip; echo $? > status; }} | true
        $ cat status
        0
        $ {{ slipstick info app.log.slip; echo $? > status; }} | true
        $ cat status
        0
    """)


def test_mode_and_time_are_kept_both_ways(folder):
    os.chmod(folder / "app.log", 0o640)
    os.utime(folder / "app.log", ns=(1_600_000_000_123456789, 1_500_000_000_987654321))
    run("compress", "app.log", cwd=folder)
    os.unlink(folder / "app.log")
    run("decompress", "app.log.slip", cwd=folder)
    for name in ("app.log", "app.log.slip"):
        status = os.stat(folder / name)
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert status.st_mtime_ns == 1_500_000_000_987654321


def test_output_of_a_stream_gets_the_mode_of_the_umask(transcript):
    transcript("""
        $ umask 027; slipstick compress -o a.slip < app.log; stat -c %a a.slip
        640
    """)


def test_a_private_file_is_private_while_it_is_packed(folder):
    os.chmod(folder / "app.log", 0o600)
    atomic = importlib.import_module("slipstick.logs._atomic")
    old = os.umask(0)
    try:
        file = atomic.AtomicFile(folder / "x", overwrite=False, like=os.stat(folder / "app.log"))
    finally:
        os.umask(old)
    (temporary,) = set(os.listdir(folder)) - {"app.log"}
    assert stat.S_IMODE(os.stat(folder / temporary).st_mode) == 0o600
    file.discard()
    assert os.listdir(folder) == ["app.log"]


def test_symbolic_links_are_followed(transcript):
    transcript("""
        $ mkdir real
        $ mv app.log real
        $ ln -s real/app.log link.log
        $ slipstick compress link.log
        $ slipstick cat link.log.slip | cmp - real/app.log
        $ ln -s real/out.slip out.slip
        $ slipstick compress -o out.slip link.log
        2> slipstick: out.slip: exists; -f overwrites it
        ? 2
        $ slipstick compress -f -o out.slip link.log
        $ test -L out.slip && slipstick cat real/out.slip | cmp - real/app.log
    """)


def test_odd_names_work_and_are_shown_on_one_line(folder):
    names = [b"-dash.log", b"with space.log", b"bad\xff.log", b"new\nline.log", b"a" * 250]
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(LOG)
    result = run("compress", "--", *names, cwd=folder)
    assert (result.returncode, result.stderr) == (0, b"")
    archives = [name + b".slip" for name in names]
    assert set(archives) < set(os.listdir(os.fsencode(folder)))
    assert run("cat", "--", *archives, cwd=folder).stdout == LOG * len(names)
    result = run("test", "./-dash.log.slip", b"bad\xff.log", b"new\nline.log", "é", cwd=folder, env=dict(os.environ, LC_ALL="C.UTF-8"))
    assert result.returncode == 2
    assert result.stderr.decode().splitlines() == [
        "slipstick: bad\\xff.log: is not a slipstick archive",
        "slipstick: new\\x0aline.log: is not a slipstick archive",
        "slipstick: é: No such file or directory",
    ]


def test_empty_files_are_archives_too(transcript):
    transcript("""
        $ : > empty
        $ slipstick compress empty
        $ rm empty
        $ slipstick decompress empty.slip
        $ test -f empty -a ! -s empty
        $ slipstick test empty.slip
        empty.slip: whole, 0 bytes
        $ slipstick cat empty.slip
        $ slipstick info --json empty.slip | grep -o '"lines": 0'
        "lines": 0
    """)


def test_limits_refuse_what_is_larger(folder):
    run("compress", "app.log", cwd=folder)
    for words in (["--max-output", "1K"], ["--max-memory", "1"]):
        result = run("decompress", "-o", "out", *words, "app.log.slip", cwd=folder)
        assert result.returncode == 2
        assert result.stderr.startswith(b"slipstick: app.log.slip: ")
        assert result.stderr.count(b"\n") == 1
        assert not (folder / "out").exists()
    assert run("cat", "--max-output", str(len(LOG)), "app.log.slip", cwd=folder).stdout == LOG


@pytest.mark.parametrize("verb", ["compress", "decompress", "test", "cat"])
def test_threads_change_no_byte(folder, verb):
    run("compress", "app.log", cwd=folder)
    source = "app.log" if verb == "compress" else "app.log.slip"
    words = ["-o", "-"] if verb in ("compress", "decompress") else []
    outputs = {run(verb, "-j", threads, *words, source, cwd=folder).stdout for threads in ("1", "2", "3", "7")}
    assert len(outputs) == 1


# Input that something else packed


def packed_inputs():
    half = len(LOG) // 2
    parts = LOG[:half], LOG[half:]
    zstd = zstandard.ZstdCompressor()
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"
    return {
        "app.log.gz": gzip.compress(LOG),
        "two.gz": gzip.compress(parts[0]) + gzip.compress(b"") + gzip.compress(parts[1]) + b"\0" * 512,
        "app.log.xz": lzma.compress(LOG),
        "two.xz": lzma.compress(parts[0]) + b"\0" * 8 + lzma.compress(parts[1]),
        "app.log.bz2": bz2.compress(LOG),
        "two.bz2": bz2.compress(parts[0]) + bz2.compress(parts[1]),
        "app.log.zst": zstd.compress(LOG),
        "two.zst": skippable + zstd.compress(parts[0]) + zstd.compress(b"") + zstd.compress(parts[1]),
    }


@pytest.mark.parametrize("name", packed_inputs())
def test_packed_logs_are_packed_as_what_they_hold(folder, name):
    data = packed_inputs()[name]
    (folder / name).write_bytes(data)
    result = run("compress", "-o", "out.slip", name, cwd=folder)
    assert (result.returncode, result.stderr) == (0, b"")
    assert run("cat", "out.slip", cwd=folder).stdout == LOG
    assert run("compress", "-", cwd=folder, input=data).stdout == (folder / "out.slip").read_bytes()


@pytest.mark.parametrize("name", packed_inputs())
def test_packed_logs_that_are_cut_or_damaged_or_followed_by_junk_are_errors(folder, name):
    data = packed_inputs()[name]
    end = len(data.rstrip(b"\0"))
    broken = {
        "cut": data[: end * 2 // 3],
        "cut at the last byte": data[: end - 1],
        "damaged": data[: end // 2] + bytes(255 - byte for byte in data[end // 2 : end // 2 + 64]) + data[end // 2 + 64 :],
        "followed by junk": data + b"junk after the end",
    }
    for case, bad in broken.items():
        if case == "damaged" and name.endswith("zst"):
            continue  # zstd frames made here carry no checksum, so damage may go unseen
        result = run("compress", "-o", "out.slip", "-", cwd=folder, input=bad)
        assert result.returncode == 2, case
        assert result.stderr.startswith(b"slipstick: -: ") and result.stderr.count(b"\n") == 1, case
        assert os.listdir(folder) == ["app.log"], case


def test_the_name_of_a_packed_log_loses_its_suffix(transcript):
    transcript(f"""
        $ gzip -k app.log
        $ mv app.log other.gz
        $ cp app.log.gz misnamed.log
        $ slipstick compress app.log.gz other.gz misnamed.log
        $ ls -A
        app.log.gz
        app.log.slip
        misnamed.log
        misnamed.log.slip
        other.gz
        other.gz.slip
        $ slipstick cat app.log.slip misnamed.log.slip other.gz.slip | md5sum
        {hashlib.md5(LOG * 3).hexdigest()}  -
    """)


def test_magic_is_found_in_a_pipe_that_gives_a_byte_at_a_time():
    foreign = importlib.import_module("slipstick.logs._foreign")

    class Trickle(io.BytesIO):
        def read(self, size=-1):
            return super().read(1)

    for data in packed_inputs().values():
        source = foreign.Source(Trickle(data))
        assert b"".join(source.plain_chunks()) == LOG
        assert source.consumed == len(data)


# The terminal


def on_terminal(words, cwd, stdin, *, stdout_too=False, columns=80):
    """Runs with standard error, and if asked standard output, on a terminal; returns (status, what it showed)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    child = subprocess.Popen([*COMMAND, *words], cwd=cwd, stdin=stdin, stderr=slave, stdout=slave if stdout_too else subprocess.DEVNULL)
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # Linux: the other side is closed
            data = b""
        if not data:
            break
        shown += data
    os.close(master)
    return child.wait(), shown.decode(errors="replace")


def test_archives_are_not_written_to_a_terminal(folder):
    status, shown = on_terminal(["compress", "-o", "-", "app.log"], folder, subprocess.DEVNULL, stdout_too=True)
    assert (status, shown) == (
        2, "slipstick: app.log: would write an archive to a terminal; use -o OUT or a pipe (-f writes it anyway)\r\n"
    )  # fmt: skip
    status, shown = on_terminal(["compress", "-q", "-f", "-o", "-", "app.log"], folder, subprocess.DEVNULL, stdout_too=True)
    assert status == 0 and len(shown) > 20


def test_a_terminal_sees_a_summary_unless_quiet(folder):
    status, shown = on_terminal(["compress", "app.log"], folder, subprocess.DEVNULL)
    size = (folder / "app.log.slip").stat().st_size
    assert (status, shown) == (
        0, f"app.log: {progress.short_size(len(LOG))} to {progress.short_size(size)}, ratio {len(LOG) / size:.1f}\r\n"
    )  # fmt: skip
    assert on_terminal(["compress", "-q", "-f", "app.log"], folder, subprocess.DEVNULL) == (0, "")


def test_long_work_shows_progress_and_cleans_the_line(folder):
    reader, writer = os.pipe()
    feeder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time\nfor i in range(16): print('line', i, flush=True); time.sleep(0.1)"], stdout=writer
    )
    os.close(writer)
    status, shown = on_terminal(["compress", "-o", "out.slip", "-"], folder, reader)
    os.close(reader)
    feeder.wait()
    assert status == 0
    lines = shown.split("\r\x1b[K")
    assert len(lines) >= 3
    assert lines[1].startswith("-  ") and "bytes" in lines[1]
    assert lines[-1].startswith("-: ")  # the summary, on a clean line


def test_progress_line_has_a_bar_when_the_size_is_known():
    assert progress.progress_line("a.log", 25_000_000, 50_000_000, 2.0, 79) == (
        "a.log  [############............]  50%  25 MB of 50 MB  12.5 MB/s"
    )
    assert progress.progress_line("-", 1234, None, 0.5, 79) == "-  1.23 kB  2.47 kB/s"
    assert progress.progress_line("grown", 12, 10, 1.0, 79).count("#") == progress.BAR_CELLS


def test_progress_on_a_narrow_terminal_keeps_its_figures():
    assert progress.progress_line("a.log", 25_000_000, 50_000_000, 2.0, 64) == "a.log   50%  25 MB of 50 MB  12.5 MB/s"
    assert progress.progress_line("logs/2024/app.log", 25_000_000, 50_000_000, 2.0, 39) == "pp.log   50%  25 MB of 50 MB  12.5 MB/s"
    assert progress.progress_line("logs/2024/app.log", 1234, None, 0.5, 24) == "pp.log  1.23 kB  2.47 kB/s"[-24:]
    assert progress.progress_line("a.log", 1234, None, 0.5, 4) == "  1."


def test_no_file_is_an_error_on_a_terminal(folder):
    master, slave = pty.openpty()
    result = run("compress", cwd=folder, stdin=slave)
    os.close(slave)
    os.close(master)
    assert result.returncode == 2
    assert result.stderr == b"slipstick: compress: no FILE given; - reads standard input; see slipstick compress --help\n"


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_the_unfinished_output(folder, number):
    (folder / "out.slip").write_bytes(b"older")

    def heed():  # a parent that ignores or blocks the signal hands that down, and the command stays deaf, rightly
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)

    child = subprocess.Popen(
        [*COMMAND, "compress", "-f", "-o", "out.slip", "-"], cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed
    )
    child.stdin.write(LOG)
    child.stdin.flush()
    deadline = time.monotonic() + 30
    while len(os.listdir(folder)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir(folder)) == 3, "the temporary file never appeared"
    child.send_signal(number)
    assert child.wait(30) == -number
    assert child.stderr.read() == b""
    child.stdin.close()
    child.stderr.close()
    assert sorted(os.listdir(folder)) == ["app.log", "out.slip"]
    assert (folder / "out.slip").read_bytes() == b"older"


def test_an_interrupt_ends_what_only_reads_without_a_traceback(folder):
    def heed():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, signal.default_int_handler)

    (folder / "app.slip").write_bytes(logs.compress(LOG * 4))
    child = subprocess.Popen([*COMMAND, "cat", "app.slip"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed)
    assert child.stdout.read(1) == LOG[:1]
    time.sleep(0.1)  # now it waits: more is left than a pipe takes
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == -signal.SIGINT
    assert child.stderr.read() == b""
    child.stdout.close()
    child.stderr.close()


def test_main_leaves_signal_handlers_as_it_found_them(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    cli.main(["--version"])
    (tmp_path / "log").write_bytes(LOG)
    assert cli.main(["compress", "-q", str(tmp_path / "log")]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


# Trouble of our own


def test_a_bug_is_status_2_and_asks_for_a_report(monkeypatch, capsys, folder):
    compress = importlib.import_module("slipstick.cli.compress")
    monkeypatch.chdir(folder)

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(compress, "compress_chunks", fail)
    error = RuntimeError("impossible state")
    assert cli.main(["compress", "app.log"]) == 2
    assert capsys.readouterr().err == "slipstick: app.log: internal error, please report it: impossible state\n"
    error = KeyError("something else")
    assert cli.main(["compress", "app.log"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.endswith("slipstick: internal error; please report it with the lines above\n")
    assert os.listdir(folder) == ["app.log"]


# Help and the command line


def test_version(transcript):
    transcript(f"""
        $ slipstick --version
        slipstick {slipstick.__version__}
        $ slipstick -V
        slipstick {slipstick.__version__}
    """)


def test_nothing_to_do_shows_the_help_as_an_error(folder):
    result = run(cwd=folder)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr == run("--help", cwd=folder).stdout == run("help", cwd=folder).stdout


def test_mistyped_words_list_similar_ones(transcript):
    transcript("""
        $ slipstick compres app.log
        2> slipstick: unknown verb compres (similar: compress, decompress); see slipstick --help
        ? 2
        $ slipstick --versoin
        2> slipstick: unknown option --versoin (similar: --version); see slipstick --help
        ? 2
        $ slipstick compress --levl=fast app.log
        2> slipstick: compress: unknown option --levl (similar: --level); see slipstick compress --help
        ? 2
        $ slipstick compress --lev fast app.log
        2> slipstick: compress: unknown option --lev (similar: --level); see slipstick compress --help
        ? 2
        $ slipstick compress -9 app.log
        2> slipstick: compress: unknown option -9; levels have names: -l fast, -l default, -l max; see slipstick compress --help
        ? 2
        $ slipstick zzz
        2> slipstick: unknown verb zzz; see slipstick --help
        ? 2
        $ slipstick unpack app.log.slip
        2> slipstick: unknown verb unpack (similar: decompress); see slipstick --help
        ? 2
        $ slipstick app.log
        2> slipstick: unknown verb app.log; the file of that name may follow one, as in slipstick compress app.log; see slipstick --help
        ? 2
        $ cp app.log ./-x.log
        $ slipstick compress -x.log
        2> slipstick: compress: unknown option -x.log; the file of that name is ./-x.log; see slipstick compress --help
        ? 2
        $ rm ./-x.log
        $ ls -A
        app.log
    """)


def test_values_that_do_not_fit_are_told_with_what_fits(transcript):
    levels = ", ".join(repr(level) for level in logs.LEVELS)
    transcript(f"""
        $ slipstick compress -l best app.log
        2> slipstick: compress: -l/--level: 'best' is not known; expected one of {levels}; see slipstick compress --help
        ? 2
        $ slipstick compress -j 0 app.log
        2> slipstick: compress: -j/--threads: '0' is not a count; expected a positive integer; see slipstick compress --help
        ? 2
        $ slipstick test --max-memory lots a
        2> slipstick: test: --max-memory: 'lots' is not a size; expected a number of bytes such as 300M or 2G; see slipstick test --help
        ? 2
        $ slipstick compress -o
        2> slipstick: compress: -o/--output: expected one argument; see slipstick compress --help
        ? 2
        $ slipstick compress -o -f app.log
        2> slipstick: compress: -o/--output: expected one argument; see slipstick compress --help
        ? 2
        $ slipstick compress app.log -qo -- app.log
        2> slipstick: compress: -o/--output: expected one argument; see slipstick compress --help
        ? 2
        $ slipstick compress --quiet=yes app.log
        2> slipstick: compress: -q/--quiet: takes no value, but has 'yes'; see slipstick compress --help
        ? 2
        $ slipstick compress -qz app.log
        2> slipstick: compress: unknown option -qz (similar: -q); see slipstick compress --help
        ? 2
        $ slipstick compress -q=1 app.log
        2> slipstick: compress: -q/--quiet: takes no value, but has '1'; see slipstick compress --help
        ? 2
        $ slipstick compress --help=3
        2> slipstick: compress: -h/--help: takes no value, but has '3'; see slipstick compress --help
        ? 2
        $ slipstick compress --into '' app.log
        2> slipstick: compress: --into: is empty; see slipstick compress --help
        ? 2
        $ slipstick compress -o a.slip app.log app.log
        2> slipstick: compress: -o names one output but there are 2 inputs; see slipstick compress --help
        ? 2
        $ slipstick completion tcsh
        2> slipstick: completion: SHELL is tcsh; expected one of bash, zsh, fish; see slipstick completion --help
        ? 2
        $ ls -A
        app.log
    """)


@pytest.mark.parametrize(
    "words", ["-q -l fast", "-qlfast", "-ql=fast", "-l=fast -q", "--level=fast --quiet", "--level fast -q", "-l max -l fast -q"]
)
def test_values_stand_beside_their_options_or_behind_them(words):
    parser = importlib.import_module("slipstick.cli._parser")
    arguments = parser.parse(importlib.import_module("slipstick.cli.compress").VERB, [*words.split(), "a", "-", "--", "-l", "--"])
    assert (arguments.level, arguments.quiet, arguments.operands) == ("fast", True, ["a", "-", "-l", "--"])
    assert (arguments.force, arguments.threads, arguments.into, arguments.help) == (False, None, None, "")


def test_options_may_stand_anywhere_and_two_dashes_end_them(transcript):
    transcript("""
        $ cp app.log ./-f
        $ slipstick compress app.log -lfast -- -f
        $ ls -A
        -f
        -f.slip
        app.log
        app.log.slip
    """)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("300M", 300 << 20), ("2g", 2 << 30), ("1.5K", 1536), ("4KiB", 4096), ("4KB", 4000), ("12B", 12), ("1TB", 10**12)],
)
def test_sizes_have_units(text, size):
    assert options.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "M", "1Q", "1MM", "1e400", "nan", "inf", "1 M M", "1iB", "9" * 30])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(Exception, match=r"is not a size; expected a number of bytes such as 300M or 2G"):
        options.parse_size(text)


VERBS = ["compress", "decompress", "cat", "grep", "append", "concat", "recover", "test", "info", "templates", "demo", "completion"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches(folder, verb):
    short, full = run(verb, "-h", cwd=folder), run(verb, "--help", cwd=folder)
    if verb == "grep":  # -h is grep's: no names
        assert (short.returncode, short.stdout) == (2, b"")
        short = run("cat", "-h", cwd=folder)
        short.stdout = short.stdout.replace(b"slipstick cat", b"slipstick grep")
    assert (short.returncode, full.returncode, short.stderr, full.stderr) == (0, 0, b"", b"")
    assert short.stdout.startswith(f"usage: slipstick {verb} [OPTIONS] ".encode())
    assert short.stdout.count(b"\n") <= 24, "-h fits a screen"
    assert b"\nexamples:\n" in full.stdout and b"\nexamples:\n" not in short.stdout
    assert max(map(len, full.stdout.splitlines())) <= 80
    assert full.stdout == run("help", verb, cwd=folder).stdout
    overview = run("--help", cwd=folder).stdout.decode()
    assert f"  {verb} " in overview
    assert "exit status: 0 done, 1 nothing found (verbs that search), 2 an error" in overview
    assert max(map(len, overview.splitlines())) <= 80


def test_texts_are_folded_as_textwrap_folds_them():
    help = importlib.import_module("slipstick.cli._help")
    verbs = importlib.import_module("slipstick.cli._verbs")
    loaded = [verbs.load(name) for name in verbs.SUMMARIES]
    texts = [each.description for each in loaded] + [option.details for each in loaded for option in each.options if option.details]
    for words in [*map(str.split, texts), ["a" * 50], ["a" * 30, "b" * 50, "c"], ["--after", "--before"]]:
        text = " ".join(words)
        for width in (20, 40, 61, 80):
            for indent in ("", " " * 6):
                wanted = textwrap.fill(
                    text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
                )
                assert help.fold(text, width, indent) == wanted + "\n"


@pytest.mark.parametrize("columns", [40, 60, 200])
@pytest.mark.parametrize("verb", VERBS)
def test_help_is_folded_to_the_terminal(folder, verb, columns):
    status, shown = on_terminal([verb, "--help"], folder, subprocess.DEVNULL, stdout_too=True, columns=columns)
    wide = run(verb, "--help", cwd=folder).stdout.decode()
    assert status == 0
    assert shown.split() == wide.split(), "the same words"
    folded = shown.replace("\r\n", "\n").split("\n\n", 1)[1].split("examples:")[0]  # usage and examples stay as they are
    assert max(map(len, folded.splitlines())) <= min(columns, 80)
    if columns >= 80:
        assert shown.replace("\r\n", "\n") == wide


@pytest.mark.parametrize("columns", [40, 60])
def test_the_overview_is_folded_to_the_terminal(folder, columns):
    status, shown = on_terminal(["--help"], folder, subprocess.DEVNULL, stdout_too=True, columns=columns)
    assert status == 0 and shown.split() == run("--help", cwd=folder).stdout.decode().split()
    before, _, after = shown.replace("\r\n", "\n").partition("examples:")
    assert max(map(len, [*before.splitlines(), *after.partition("exit status")[2].splitlines()])) <= columns


def test_a_suggested_command_can_be_copied(folder):
    (folder / "my log.txt").write_bytes(b"a\n")
    assert b"slipstick compress 'my log.txt'" in run("my log.txt", cwd=folder).stderr


def test_a_bad_time_is_told_without_control_codes(folder):
    (folder / "a.log").write_bytes(b"a\n")
    run("compress", "a.log", cwd=folder)
    for text in ("a\x1b[31mb", b"\xff"):
        refused = run("cat", "--after", text, "a.log.slip", cwd=folder)
        assert refused.returncode == 2 and b"\x1b" not in refused.stderr and b"parse_" not in refused.stderr


def test_help_prints_defaults(folder):
    text = run("compress", "--help", cwd=folder).stdout.decode()
    assert f"effort: {', '.join(logs.LEVELS)} (default: default)" in text
    assert "SLIPSTICK_NUM_THREADS" in text


def test_every_verb_in_the_table_is_tested_here():
    assert list(importlib.import_module("slipstick.cli._verbs").SUMMARIES) == VERBS


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_valid_and_name_every_verb_and_option(folder, shell):
    script = run("completion", shell, cwd=folder).stdout
    for verb in VERBS:
        assert verb.encode() in script
    for option in ("level", "max-memory", "json"):
        assert option.encode() in script
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed; only the text was looked at")
    checked = subprocess.run([shell, "-n"], input=script, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, b"")


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["slipstick", "dec"], {"decompress"}),
        (["slipstick", "compress", "--q"], {"--quiet"}),
        (["slipstick", "compress", "-l", "d"], {"default"}),
        (["slipstick", "compress", "--level", ""], set(logs.LEVELS)),
        (["slipstick", "completion", ""], {"bash", "zsh", "fish"}),
        (["slipstick", "demo", "log"], {"logs"}),
        (["slipstick", "compress", "ap"], set()),  # left to the shell, which knows files
    ],
)
def test_bash_completes(folder, words, offered):
    script = run("completion", "bash", cwd=folder).stdout.decode()
    quoted = " ".join(f"'{word}'" for word in words)
    script += f'COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}; _slipstick; printf "%s\\n" "${{COMPREPLY[@]}}"'
    result = subprocess.run(["bash"], input=script, capture_output=True, text=True)
    assert result.stderr == ""
    assert set(result.stdout.split()) == offered


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
def test_fish_completes(folder):
    script = run("completion", "fish", cwd=folder).stdout.decode()
    script += "\ncomplete -C 'slipstick compress --lev'\n"
    result = subprocess.run(["fish", "--private"], input=script, capture_output=True, text=True)
    assert "--level" in result.stdout


# Cost


@pytest.mark.long
def test_a_stream_is_packed_and_unpacked_in_bounded_memory(folder):
    # Four times the input may not need more memory; and neither may come near the size of the stream.
    code = (
        "import sys\nsys.stdout.reconfigure(newline='\\n')\n"
        "for i in range(int(sys.argv[1])): print(f'2024-05-01 INFO worker-{i % 7} finished job {i * 7919 % 1000003} of batch {i >> 9}')"
    )
    # What wait4 tells of a child begins with the memory of the process that started it, so each tells its own at the end.
    watched = (
        "import sys\nfrom slipstick.cli import main\nstatus = main(sys.argv[2:])\n"
        "peak, = (line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "open(sys.argv[1], 'w').write(peak)\nsys.exit(status)"
    )
    kibibytes = [folder / name for name in ("packer", "unpacker")]
    commands = [[sys.executable, "-c", watched, str(path)] for path in kibibytes]
    peaks = []
    for lines in (1_500_000, 6_000_000):  # 80 MB and 340 MB
        feeder = subprocess.Popen([sys.executable, "-c", code, str(lines)], stdout=subprocess.PIPE)
        packer = subprocess.Popen([*commands[0], "compress", "-j", "1", "-l", "fast", "-"], stdin=feeder.stdout, stdout=subprocess.PIPE)
        unpacker = subprocess.Popen([*commands[1], "cat", "-j", "1", "-"], stdin=packer.stdout, stdout=subprocess.PIPE)
        feeder.stdout.close()
        packer.stdout.close()
        newlines = 0
        while data := unpacker.stdout.read(1 << 20):
            newlines += data.count(b"\n")
        unpacker.stdout.close()
        assert newlines == lines
        assert [child.wait() for child in (feeder, packer, unpacker)] == [0, 0, 0]
        peaks.append([int(path.read_text()) * 1024 for path in kibibytes])
    for small, large in zip(*peaks, strict=True):
        assert large < 1.3 * small + (16 << 20), peaks
        assert large < 300 << 20, peaks


def test_console_script_is_this_main():
    metadata = importlib.import_module("importlib.metadata")
    try:
        distribution = metadata.distribution("slipstick")
    except metadata.PackageNotFoundError:
        pytest.skip("slipstick is not installed")
    (entry,) = (entry for entry in distribution.entry_points if entry.name == "slipstick")
    assert entry.load() is cli.main
