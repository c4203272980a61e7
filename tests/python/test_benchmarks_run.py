# Contract: the report has a section for every benchmark that was asked for, with its command, and says of each that fails or lacks a package so.
from __future__ import annotations

import importlib
import importlib.util
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
    chart = run.Chart("seconds", (0,), (1,))
    monkeypatch.setattr(
        run, "BENCHMARKS", {name: run.Benchmark(name.title(), f"{name}.py", "--full", "--quick", chart) for name in scripts}
    )


def test_sections_hold_what_the_scripts_print_and_the_status_tells_of_failures(run, monkeypatch, tmp_path, capsys):
    good = "import sys\nprint('| what | time |\\n| --- | ---: |\\n| ' + ' '.join(sys.argv[1:]) + ' | **2.5** |')\n"
    use(run, monkeypatch, tmp_path, good=good, bad="import sys\nsys.exit('no such thing')\n")
    output = tmp_path / "results"
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--output", str(output)])
    assert run.main() == 1
    text = (output / "quick.md").read_text()
    section = (
        "## Good\n\n`python benchmarks/good.py --quick --markdown`\n\n| what | time |\n| --- | ---: |\n| --quick --markdown | **2.5** |\n"
    )
    drawn = importlib.util.find_spec("matplotlib") is not None
    assert section + ("\n![Good](quick-good.png)\n" if drawn else "") in text
    assert [path.name for path in output.glob("*.png")] == ["quick-good.png"] * drawn
    assert "## Bad\n\n" in text and "Failed with status 1:\n\n```\nno such thing\n```" in text
    assert text.splitlines()[0].startswith("# slipstick measured quickly")
    assert capsys.readouterr().out.strip() == text.strip()
    monkeypatch.setattr(sys, "argv", ["run.py", "good", "--output", str(output)])
    assert run.main() == 0
    assert "--full --markdown" in capsys.readouterr().out
    assert "--full --markdown" in (output / "report.md").read_text()


def test_a_table_is_read_as_it_is_drawn(run):
    text = "words | no table\n\n| what | time | of |\n| --- | ---: | ---: |\n| a b | **2.5** | 12x |\n| c |  | 8% |\n\n| another |\n"
    assert run.first_table(text) == [["what", "time", "of"], ["a b", "2.5", "12x"], ["c", "", "8%"]]
    assert [run.figure_of(cell) for cell in ("2.5", "12x", "8%", "", "failed")] == [2.5, 12.0, 8.0, None, None]


def test_a_missing_package_is_named(run):
    text, done = run.section(run.Benchmark("Title", "none.py", "", "", run.Chart("", (), ()), ("no_such_package",)), "")
    assert not done and "Left out: no_such_package is not installed." in text


def test_every_script_is_there_and_an_unknown_name_is_refused(run):
    for benchmark in run.BENCHMARKS.values():
        assert (BENCHMARKS / benchmark.script).exists()
    result = subprocess.run([sys.executable, BENCHMARKS / "run.py", "nonsense"], capture_output=True, text=True)
    assert result.returncode == 2 and "unknown benchmark 'nonsense'; expected some of logs" in result.stderr


@pytest.mark.long
@pytest.mark.torch
def test_the_quick_report_is_whole(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    result = subprocess.run([sys.executable, BENCHMARKS / "run.py", "--quick", "--output", tmp_path], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "quick.md").read_text("utf-8").count("\n## ") == 6
