# Contract: .ci and the tests speak the same language. Every mark and label that a stage selects exists and selects something, every mark in
# the tests is declared, and each stage of .ci/run is a script of its name.
from __future__ import annotations

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CI = ROOT / ".ci"
SCRIPTS = {path.name: path.read_text("utf-8") for path in CI.iterdir() if path.is_file() and not path.suffix}
TESTS = {path.name: path.read_text("utf-8") for path in (ROOT / "tests" / "python").glob("test_*.py")}
BUILT_IN_MARKS = {"parametrize", "skip", "skipif", "xfail", "usefixtures", "filterwarnings"}


def declared_marks():
    """Marks of our own, as pyproject.toml declares them. tomllib is not there on 3.10."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    return set(re.findall(r'^  "(\w+): ', re.search(r"^markers = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1], re.MULTILINE))


def marks_in(text):
    return set(re.findall(r"pytest\.mark\.(\w+)", text)) - BUILT_IN_MARKS


def marks_selected(text):
    """Names in the expression of each `pytest ... -m EXPRESSION`."""
    expressions = re.findall(r"""pytest\b[^\n]* -m (?:'([^']+)'|"([^"]+)"|(\w+))""", text)
    return {name for groups in expressions for name in re.findall(r"\w+", "".join(groups))} - {"and", "or", "not"}


def test_stages_are_the_scripts_of_their_names():
    stages = re.search(r"^all=\((.*)\)$", SCRIPTS["run"], re.MULTILINE)[1].split()
    assert set(stages) == SCRIPTS.keys() - {"run", "smoke"}
    for name, text in SCRIPTS.items():
        assert os.access(CI / name, os.X_OK), name
        assert text.startswith("#!/usr/bin/env bash\n# "), name
        assert name in ("run", "smoke") or 'source "$(dirname "$0")/common.sh"' in text, name


@pytest.mark.parametrize("name", [*SCRIPTS, "common.sh"])
def test_scripts_are_bash(name):
    assert subprocess.run(["bash", "-n", CI / name], capture_output=True, text=True).stderr == ""


def test_an_unknown_stage_is_named_and_nothing_runs():
    result = subprocess.run([CI / "run", "lint", "nonsense"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "unknown stage 'nonsense'; expected some of: install test torch kernels sanitize lint types wheel cuda" in result.stderr


def test_marks_of_tests_and_stages_are_the_declared_ones():
    declared = declared_marks()
    assert {"kernel", "long"} <= declared
    used = {name: marks_in(text) for name, text in TESTS.items() if name != pathlib.Path(__file__).name}
    assert set().union(*used.values()) == declared
    selected = set().union(*map(marks_selected, SCRIPTS.values()))
    assert "kernel" in selected
    assert selected <= declared


def test_marks_are_read_as_pytest_reads_them():
    assert marks_in("@pytest.mark.long\n@pytest.mark.parametrize('x', [1])\npytestmark = [pytest.mark.kernel]") == {"long", "kernel"}
    assert marks_selected("""python -m pytest -q -m 'kernel and not long'\npytest -m odd\n""") == {"kernel", "long", "odd"}


def test_labels_of_ctest_are_set_where_tests_are_added():
    selected = {label for text in SCRIPTS.values() for label in re.findall(r" -LE? (\w+)", text)}
    labels = set(re.findall(r"LABELS (\w+)", (ROOT / "tests" / "cpp" / "CMakeLists.txt").read_text("utf-8")))
    assert selected == labels == {"kernel"}


def test_tools_are_pinned_and_used():
    lines = [line for line in (CI / "requirements.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    for line in lines:
        name = re.fullmatch(r"([\w-]+)==[\d.]+", line)[1]
        assert any(f"bin/{name}" in text for text in [*SCRIPTS.values(), (CI / "common.sh").read_text("utf-8")]), name
