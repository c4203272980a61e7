# Contract: the report has a section for every benchmark that was asked for, with its command, and says of each that fails or lacks a package so.
from __future__ import annotations

import importlib
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("run")


def use(run, monkeypatch, tmp_path, **scripts):
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(run, "BENCHMARKS", {name: run.Benchmark(name.title(), f"{name}.py", "--full", "--quick") for name in scripts})


def test_sections_hold_what_the_scripts_print_and_the_status_tells_of_failures(run, monkeypatch, tmp_path, capsys):
    good = "import sys\nprint('| words |\\n| ' + ' '.join(sys.argv[1:]) + ' |')\n"
    use(run, monkeypatch, tmp_path, good=good, bad="import sys\nsys.exit('no such thing')\n")
    output = tmp_path / "report.md"
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--output", str(output)])
    assert run.main() == 1
    text = output.read_text()
    assert "## Good\n\n`python benchmarks/good.py --quick --markdown`\n\n| words |\n| --quick --markdown |\n" in text
    assert "## Bad\n\n" in text and "Failed with status 1:\n\n```\nno such thing\n```" in text
    assert text.splitlines()[0].startswith("# slipstick measured quickly")
    assert capsys.readouterr().out.strip() == text.strip()
    monkeypatch.setattr(sys, "argv", ["run.py", "good"])
    assert run.main() == 0
    assert "--full --markdown" in capsys.readouterr().out


def test_a_missing_package_is_named(run):
    text, done = run.section(run.Benchmark("Title", "none.py", "", "", ("no_such_package",)), "")
    assert not done and "Left out: no_such_package is not installed." in text


def test_every_script_is_there_and_an_unknown_name_is_refused(run):
    for benchmark in run.BENCHMARKS.values():
        assert (BENCHMARKS / benchmark.script).exists()
    result = subprocess.run([sys.executable, BENCHMARKS / "run.py", "nonsense"], capture_output=True, text=True)
    assert result.returncode == 2 and "unknown benchmark 'nonsense'; expected some of logs" in result.stderr
