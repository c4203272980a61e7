# Contract: --after and --before select lines by the time they tell, in the formats that logs have; a line without one has that of the line
# before it, across blocks too, and blocks out of range are not decoded. The oracle is Python's datetime and a loop over the lines.
from __future__ import annotations

import importlib
import random
from datetime import datetime, timedelta

import pytest

from slipstick import logs

cli = importlib.import_module("slipstick.cli")
core = importlib.import_module("slipstick._core").logs

SEED = 20261127
START = datetime(2024, 5, 1, 6, 0, 0)


def selected(raw, **options):
    grep = core.Grep(core.Archive(logs.compress(raw, level="fast")), b"", **options)
    return b"".join(batch.text() for batch in iter(grep.next, None))


MOMENT = datetime(2024, 5, 3, 7, 8, 9)
FORMATS = [
    ("2024-05-03 07:08:09 INFO", 0),
    ("2024-05-03T07:08:09.123456Z INFO", 123456),
    ("[2024-05-03\t07:08:09.25] x", 250000),
    ("2024-05-03 07:08:09,123 INFO", 123000),
    ("2024/05/03 07:08:09 [error]", 0),
    ("- 1 2024.05.03 R02 2024-05-03-07.08.09.675872 R", 675872),
    ('1.2.3.4 - - [03/May/2024:07:08:09 +0200] "GET /"', 0),
    ("[Fri May 03 07:08:09 2024] [notice]", 0),
    ("[Fri May  3 07:08:09.5 2024] [notice]", 500000),
    ("24/05/03 07:08:09 INFO executor", 0),
    ("240503 070809 148 INFO dfs", 0),
    ("20240503-07:08:09:606|Step", 606000),
    ("nova-api.log.1.2017-05-16_13:53:08 2024-05-03 07:08:09.008 x", 8000),
    ('{"time":"2024-05-03T07:08:09.1","level":1}', 100000),
    ("level=info ts=2024-05-03T07:08:09 msg", 0),
    ("1714720089 node", 0),
    ("21322 1714720089.503015 execve", 503015),
    ("1714720089123 x", 123000),
]


@pytest.mark.parametrize(("line", "micros"), FORMATS)
def test_the_time_of_a_line_is_known_to_the_microsecond(line, micros):
    raw = line.encode() + b"\n"
    moment = MOMENT + timedelta(microseconds=micros)
    later = moment + timedelta(microseconds=1)
    assert selected(raw, since=str(moment)) == raw
    assert selected(raw, since=str(later)) == b""
    assert selected(raw, until=str(later)) == raw
    assert selected(raw, until=str(moment)) == b""


@pytest.mark.parametrize(
    ("line", "micros"), [("May  3 07:08:09 host sshd[1]: x", 0), ("05-03 07:08:09.811  1702", 811000), ("[05.03 07:08:09] chrome.exe", 0)]
)
def test_times_without_a_year_compare_without_one(line, micros):
    raw = line.encode() + b"\n"
    for year in (1999, 2000, 2024):
        moment = MOMENT.replace(year=year) + timedelta(microseconds=micros)
        later = moment + timedelta(microseconds=1)
        assert selected(raw, since=str(moment)) == raw
        assert selected(raw, since=str(later)) == b""
        assert selected(raw, until=str(later)) == raw
    # Over the end of a year
    assert selected(raw, since="2023-11-01", until="2024-05-04") == raw
    assert selected(raw, since="Nov 1", until="Feb 1") == b""
    assert selected(raw, since="May 3", until="May 4") == raw
    assert selected(b"2024-05-03 07:08:09 x\n", since="May 3 07:08", until="May 3 07:09") == b"2024-05-03 07:08:09 x\n"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no time",
        "2024-13-03 07:08:09",
        "2024-05-03",
        "07:08:09",
        "2024-05-03 07:61:09",
        "id 20240503",
        "x2024-05-03 07:08:09",
        "12345678901 x",
    ],
)
def test_other_lines_have_no_time(line):
    raw = line.encode() + b"\n"
    assert selected(raw, since="1971-01-01") == b""
    assert selected(raw, until="2100-01-01") == raw  # as what is in front of the first time


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2024",
        "2024-05-03 07",
        "May",
        "2024-05-03 07:08:09 x",
        "12",
        "2024-02-30",
        "2023-02-29 10:00:00",
        "20240431",
        "Feb 30 10:00",
        "Feb 29 10:00:00 2023",
        "31/Jun/2024:10:00:00",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=f"time is '{text}'; expected one such as '2024-05-01 12:00:00'"):
        selected(b"a\n", since=text)


def test_the_last_days_of_months_are_times():
    raw = b"2023-12-31 23:59:59 x\n"
    assert selected(raw, since="2023-12-31", until="2024-01-01") == raw
    for text in ("2024-02-29", "2000-02-29", "Feb 29 10:00", "2024-04-30", "2024-12-31"):
        selected(raw, since=text)


def test_a_line_of_a_day_that_is_none_still_has_a_time():
    raw = b"2024-02-30 10:00:00 x\n"  # of the day after the 29th, as the records of archives have it
    assert selected(raw, since="2024-03-01", until="2024-03-02") == raw


def made_records(made, count):
    """Lines with the time that each counts as, the first ones with none; about every third has none of its own."""
    lines, time = [], None
    moment = START
    for i in range(count):
        if i > 2 and made.random() < 0.6:
            moment += timedelta(seconds=made.choice((0, 0.25, 1, 20)))
            time = moment
            lines.append((time, b"%s INFO request %d took %d ms and more words here\n" % (str(time).encode(), i, made.randrange(10**6))))
        else:
            lines.append((time, b"    at frame %d of %x\n" % (i, made.getrandbits(60))))
    return lines


def wanted(lines, since, until):
    return b"".join(
        line
        for time, line in lines
        if (time is None and since is None) or (time is not None and (since is None or time >= since) and (until is None or time < until))
    )


def test_ranges_go_over_blocks_and_lines_without_a_time(tmp_path):
    made = random.Random(SEED)
    for level in ("fast", "default"):
        lines = made_records(made, 1500)
        packed, at = b"", 0
        while at < len(lines):  # small archives one behind the other stand for blocks; some are large enough for a record of times
            end = at + made.choice((1, 3, 20, 400))
            packed += logs.compress(b"".join(line for _, line in lines[at:end]), level=level)
            at = end
        (tmp_path / "app.slip").write_bytes(packed)
        with logs.Archive(tmp_path / "app.slip") as archive:
            for _ in range(25):
                first, second = (START + timedelta(seconds=made.randrange(-100, 4500)) for _ in range(2))
                since, until = made.choice(((first, second), (first, None), (None, second)))
                words = {"since": since or "", "until": until or ""}
                assert b"".join(line for _, line in archive.grep("", **words)) == wanted(lines, since, until)
                got = [number for number, _ in archive.grep("INFO", invert=True, threads=2, **words)]
                kept = {id(line) for time, line in lines if wanted([(time, line)], since, until)}
                assert got == [n for n, (_, line) in enumerate(lines) if b"INFO" not in line and id(line) in kept]


def test_blocks_out_of_range_are_not_decoded(tmp_path, monkeypatch, capfdbinary):
    made = random.Random(SEED)
    days = []
    for day in range(1, 6):
        days.append(
            b"".join(
                b"2024-05-%02d 10:%02d:%02d user %x logged in\n" % (day, i // 60 % 60, i % 60, made.getrandbits(50)) for i in range(1500)
            )
        )
    packed = b"".join(logs.compress(day, level="fast") for day in days)

    def decoded(**options):
        grep = core.Grep(core.Archive(packed), b"", count_only=True, **options)
        count = sum(batch.selected for batch in iter(grep.next, None))
        return grep.blocks_decoded, count

    assert decoded(since="2024-05-04") == (2, 3000)
    assert decoded(until="2024-05-02") == (2, 1500)  # the second day may begin with lines of the first
    assert decoded(since="2024-05-02", until="2024-05-03")[1] == 1500
    assert decoded(since="2025-01-01") == (0, 0)
    assert decoded(since="May 2", until="May 3")[1] == 1500
    (tmp_path / "app.slip").write_bytes(packed)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cat", "--after", "2024-05-05 10:24:50", "app.slip"]) == 0
    assert capfdbinary.readouterr().out == b"".join(days[4].splitlines(keepends=True)[-10:])
    assert cli.main(["grep", "-c", "--after=2024-05-02", "--before=2024-05-03 10:00:10", "logged", "app.slip"]) == 0
    assert capfdbinary.readouterr().out == b"1510\n"
    assert cli.main(["cat", "--after", "noon", "app.slip"]) == 2
    assert cli.main(["cat", "--after", "May 1", "--lines", "1:2", "app.slip"]) == 2
    errors = capfdbinary.readouterr().err.decode().splitlines()
    assert errors[0].startswith("slipstick: cat: --after: time is 'noon'; expected one such as ")
    assert errors[1] == "slipstick: cat: --lines and times exclude each other; see slipstick cat --help"
