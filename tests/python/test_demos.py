# Contract: a demonstration measures on the spot, says so in a narrow table without control codes, and names what is missing.
from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys

import pytest

from slipstick import demos
from slipstick.demos import _report
from slipstick.demos import logs as logs_demo


@pytest.fixture
def log_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(logs_demo, "LOG_FOLDER", str(tmp_path))
    return tmp_path


def check_text(report):
    wide = report.text()
    for width in (40, 50, _report.WIDTH, 200):
        text = report.text(width)
        assert max(map(len, text.splitlines())) <= width
        assert text.isascii() and "\x1b" not in text
        assert "".join(text.split()) == "".join(wide.split()), "the same words in the same order"
    for row in (report.head, *report.rows):
        assert len(row) == len(report.head)


def test_logs_packs_the_largest_log_that_may_be_read(log_folder):
    (log_folder / "deep").mkdir()
    line = b"2024-05-01 12:00:00 INFO job %d done in %d ms\n"
    (log_folder / "deep" / "app.log").write_bytes(b"".join(line % (i, i * i % 977) for i in range(5000)))
    (log_folder / "small.log").write_bytes(b"x\n" * logs_demo.LEAST_BYTES)
    (log_folder / "larger.bin").write_bytes(bytes(1 << 20))
    os.symlink("nowhere", log_folder / "dangling.log")
    report = demos.run("logs")
    check_text(report)
    assert str(log_folder / "deep" / "app.log") in report.title
    sizes = {row[0]: int(row[1].replace(",", "")) for row in report.rows}
    assert sizes["slipstick default"] < sizes["xz -9e"] < sizes["zstd -3"]
    best = min(size for packer, size in sizes.items() if packer.startswith("slipstick"))
    assert f"needs {best / sizes['xz -9e']:.3f} of the bytes" in re.sub(r"\s+", " ", report.text())


def test_logs_makes_a_log_where_there_is_none(log_folder):
    name, data = logs_demo.find_log()
    assert "tokenizer" in data.decode().splitlines()[0] and "trace" in name
    assert len(data) > logs_demo.LEAST_BYTES


def test_lowbit_measures_each_format(monkeypatch):
    lowbit_demo = importlib.import_module("slipstick.demos.lowbit")
    monkeypatch.setattr(lowbit_demo, "COUNT", 10_000)
    report = demos.run("lowbit")
    check_text(report)
    sqnr = {row[0]: row[2] for row in report.rows}
    assert sqnr["numpy copy"] == "exact"
    assert (
        float(sqnr["slipstick e5m10"]) > float(sqnr["slipstick e4m3fn"]) > float(sqnr["slipstick e5m2"]) > float(sqnr["slipstick e2m1"]) > 0
    )


def test_sketch_solves_and_says_so(monkeypatch):
    sketch_demo = importlib.import_module("slipstick.demos.sketch")
    monkeypatch.setattr(sketch_demo, "ROWS", 5_000)
    monkeypatch.setattr(sketch_demo, "COLUMNS", 20)
    report = demos.run("sketch")
    check_text(report)
    errors = {row[0]: float(row[2]) for row in report.rows}
    assert errors["slipstick lstsq"] < 1e-8
    assert "certified" in report.meaning and "not certified" not in report.meaning


def test_an_unknown_room_is_named():
    with pytest.raises(ValueError) as caught:
        demos.run("cellar")
    assert str(caught.value).startswith("run: room is 'cellar'; expected one of logs")


def test_a_missing_package_is_named():
    with pytest.raises(demos.MissingError) as caught:
        _report.require("no_such_package", "slipstick[torch]")
    assert str(caught.value) == "needs no_such_package: pip install 'slipstick[torch]'"


def test_names_stand_above_their_figures_where_the_terminal_is_narrow():
    report = _report.Report("title", ("", "bytes"), [("slipstick with a long name", "1,234,567,890")], "meaning", "one(\n    two)")
    assert report.text(44).splitlines()[2:4] == [" " * 38 + "bytes", "  slipstick with a long name  1,234,567,890"]
    assert report.text(40).splitlines()[2:] == [
        " " * 12 + "bytes",
        "  slipstick with a long name",
        "    1,234,567,890",
        "",
        "meaning",
        "",
        "  one(",
        "      two)",
    ]


def test_the_verb_prints_the_report_and_goes_on_after_a_room_that_misses_something():
    code = """if True:
        import sys
        from slipstick import cli, demos
        def run(room):
            if room == "first":
                raise demos.MissingError("needs nothing at all")
            return demos.Report("title of " + room, ("", "s"), [("ours", "1")], "meaning", "command")
        demos.run, demos.ROOMS = run, ("first", "second")
        sys.exit(cli.main(["demo"]))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "slipstick: demo: first: needs nothing at all\n"
    assert result.stdout.splitlines() == ["title of second", "", "        s", "  ours  1", "", "meaning", "", "  command", ""]
