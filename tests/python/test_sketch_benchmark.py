# Contract: the benchmark runs from a command line and its table and record hold every call and its backward error. No figure that a clock made is
# looked at.
from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import time

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "sketch.py"


def test_small_case_gives_table_and_record(tmp_path):
    words = [
        "--sizes",
        "6000x20",
        "--conditions",
        "1e3,1e12",
        "--runs",
        "1",
        "--solvers",
        "slipstick,A.T @ A + Cholesky,numpy lstsq",
        "--markdown",
    ]
    result = subprocess.run([sys.executable, SCRIPT, *words, "--json", tmp_path / "out.json"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "| 6000 x 20, 1e+03 | slipstick (gram) |" in result.stdout
    assert "| 6000 x 20, 1e+12 | slipstick (preconditioned_gram) |" in result.stdout
    record = json.loads((tmp_path / "out.json").read_text())
    for case in record["cases"]:
        assert case["errors"]["slipstick"] < 4.5e-16
        assert set(case["samples"]) >= {"A @ v", "A.T @ A", "sketch srht", "slipstick", "numpy lstsq"}
    assert record["cases"][0]["errors"]["A.T @ A + Cholesky"] > record["cases"][0]["errors"]["slipstick"]
    assert {"processor", "python"} <= record["machine"].keys()


def test_small_stream_gives_its_share_and_leaves_no_file(tmp_path):
    words = ["--stream", "0.02", "--runs", "1", "--folder", tmp_path, "--json", tmp_path / "out.json"]
    result = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "share of the read speed: " in result.stdout and "memory beside the state: " in result.stdout
    (case,) = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert case["bytes"] == 25_000 * 101 * 8 and case["samples"].keys() == {"read", "fit"} and case["largest_error"] < 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_stream_that_is_stopped_leaves_no_file(tmp_path):
    process = subprocess.Popen([sys.executable, SCRIPT, "--stream", "0.2", "--runs", "50", "--folder", tmp_path], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/y.npy")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
