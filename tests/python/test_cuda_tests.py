# Contract: benchmarks/cuda_tests.py runs every test once, also those after one that left the device unusable or ended its process, and fails if one did.
# The device is that of a torch of our own.
from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "cuda_tests.py"

TORCH = """
class cuda:
    broken = False
    is_initialized = staticmethod(lambda: True)
    @staticmethod
    def synchronize():
        if cuda.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\\nmore")
"""
TESTS = """
import os, pathlib, signal, torch
def begin(name):
    with open("ran", "a") as file:
        file.write(name + "\\n")
def test_first(): begin("first")
def test_wild(): begin("wild"); torch.cuda.broken = True; assert 1 + 1 == 3
def test_after(): begin("after"); assert not torch.cuda.broken
def test_crash(): begin("crash"); os.kill(os.getpid(), signal.SIGKILL)
def test_last(): begin("last"); torch.cuda.broken = LAST
"""


@pytest.mark.parametrize("last", [False, True])
def test_every_test_runs_once(last, tmp_path):
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "test_all.py").write_text(TESTS.replace("LAST", str(last)))
    command = [sys.executable, SCRIPT, "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_all.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "ran").read_text().split() == ["first", "wild", "after", "crash", "last"]
    assert result.returncode == 1
    assert "the device is lost to this process after test_all.py::test_wild: CUDA error: an illegal memory access" in result.stdout
    assert "test_all.py::test_wild, call:\nE   assert (1 + 1) == 3" in result.stdout  # what the test itself said
    assert ("after test_all.py::test_last: CUDA error" in result.stdout) == last


@pytest.mark.parametrize(("tests", "status"), [("def test_one(): pass", 0), ("def test_one(): assert False", 1), ("", 1)])
def test_one_process_is_enough_where_nothing_is_lost(tests, status, tmp_path):
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "test_all.py").write_text(tests)
    command = [sys.executable, SCRIPT, "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_all.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == status and "new process" not in result.stdout
