# Contract: what the README shows works. Its blocks run as they stand, its two commands are those that .ci/install and .ci/test run, and the
# files and stages it names exist. The two commands themselves are run by those stages, for they install.
from __future__ import annotations

import gzip
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

from slipstick import logs

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
LOG = b"".join(
    b"2024-05-01 12:%02d:%02d %s job %d done\n" % (i // 60 % 60, i % 60, b"ERROR" if i % 50 == 7 else b"INFO", i) for i in range(1000)
)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BLOCKS = load(ROOT / ".ci" / "readme.py").blocks(README)


@pytest.fixture
def folder(tmp_path):
    """A folder with what the examples name."""
    (tmp_path / "app.log").write_bytes(LOG)
    (tmp_path / "app.log.gz").write_bytes(gzip.compress(LOG))
    return tmp_path


@pytest.fixture
def environment(tmp_path_factory):
    """Where `slipstick` is the command of this interpreter."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "slipstick"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m slipstick.cli "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_every_block_of_code_is_looked_at_here():
    assert [(block.heading, block.language) for block in BLOCKS] == [
        ("Two commands", "sh"),
        ("Two commands", "sh"),
        ("The logs room", "sh"),
        ("The logs room", "python"),
        ("The lowbit room", "python"),
        ("The losses room", "python"),
        ("The sketch room", "python"),
    ]


@pytest.mark.parametrize(("stage", "number"), [("install", 0), ("test", 1)])
def test_the_stages_run_the_two_commands_word_for_word(stage, number):
    fences = re.findall(r"^```sh\n(.*)\n```$", README, re.MULTILINE)  # blocks of one line, in order
    printed = subprocess.run([sys.executable, ROOT / ".ci" / "readme.py", stage], capture_output=True, text=True, check=True).stdout
    assert printed == fences[number] + "\n"
    script = (ROOT / ".ci" / stage).read_text("utf-8")
    assert f"readme.py {stage})" in script
    assert re.search(r'^PATH=\S+/bin:\$PATH bash -euo pipefail -c "\$command"$', script, re.MULTILINE)


def test_the_first_command_packs_a_log_and_the_second_runs_the_tests():
    install, test = (block.text.strip() for block in BLOCKS[:2])
    log = re.fullmatch(r"pip install --log (\S+) \. && slipstick compress -l max -f \1", install)
    assert log and f"/{log[1]}*" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert test == "pip install '.[test]' && pytest -q"


def test_commands_of_the_logs_room_run(folder, environment):
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", BLOCKS[2].text], cwd=folder, env=environment, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"".join(LOG.splitlines(keepends=True)[-3:]))
    assert b"ratio" in result.stdout
    for name in ("app.log.slip", "old.slip"):
        assert logs.decompress((folder / name).read_bytes()) == LOG


def test_python_of_the_logs_room_runs(folder, monkeypatch, capsys):
    (folder / "app.log.slip").write_bytes(logs.compress(LOG))
    monkeypatch.chdir(folder)
    exec(compile(BLOCKS[3].text, "README.md", "exec"), {})
    errors, archive, found = capsys.readouterr().out.splitlines()
    assert (errors, found) == ("20", "20")
    assert archive.startswith("1000 b'2024-05-01 12:00:00 INFO job 0 done")


def test_python_of_the_lowbit_room_runs(capsys):
    exec(compile(BLOCKS[4].text, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "float32 (4, 2)"
    assert second.endswith(" dB [ 8. 12. 16.]") or " dB " in second


def test_python_of_the_losses_room_runs(capsys):
    exec(compile(BLOCKS[5].text, "README.md", "exec"), {})
    cross_entropy, focal, entropy = map(float, capsys.readouterr().out.split())
    assert 0 < focal < cross_entropy
    assert 0 < entropy < 8.6  # log 5000


def test_python_of_the_sketch_room_runs(capsys):
    (block,) = (block for block in BLOCKS if block.heading == "The sketch room")
    exec(compile(block.text, "README.md", "exec"), {})
    assert capsys.readouterr().out == "gram True\n"


def test_tables_name_the_command_that_made_them():
    made_by = re.findall(r"<!-- table: python (\S+)(.*?) -->\n.*?<!-- end of table -->", README, re.DOTALL)
    assert made_by
    for script, options in made_by:
        assert (ROOT / script).exists()
        usage = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True).stdout
        for option in re.findall(r"--[\w-]+", options):
            assert option in usage


def test_places_and_stages_that_it_names_exist():
    named = set(re.findall(r"`((?:\.ci|cpp|bindings|python|tests|benchmarks)(?:/[\w./]*\w)?)`", README))
    assert {".ci", "cpp/base", "bindings"} <= named
    assert [name for name in sorted(named) if "ROOM" not in name and not (ROOT / name).exists()] == []
    for stages in re.findall(r"`\.ci/run ([\w ]+)`", README):
        assert all(os.access(ROOT / ".ci" / stage, os.X_OK) for stage in stages.split())
