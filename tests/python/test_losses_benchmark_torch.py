# Contract: the benchmark of the room runs from a command line and checks losses and gradients before it prints; a small language model trains to
# the same loss curve with our loss as with torch's. No figure that a clock made is looked at.
from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch
SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "losses.py"
TWO_HEADS = SCRIPT.with_name("two_heads.py")


def run(*words, script=SCRIPT):
    return subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=300)


def test_a_small_shape_is_measured():
    result = run("40,16,300", "--runs", "1", "--dtypes", "float32", "--no-chunked", "--no-memory")
    assert result.returncode == 0, result.stderr
    for case in ("torch eager", "slipstick", "slipstick filtered"):
        assert f"40,16,300 float32, {case}" in result.stdout


def test_losses_of_two_heads_are_measured():
    result = run("40,16,300", "--runs", "1", "--dtypes", "float32", "--no-memory", script=TWO_HEADS)
    assert result.returncode == 0, result.stderr
    for loss in ("forward_kl", "reverse_kl", "jensen_shannon", "binary_kl", "difference"):
        assert f"40,16,300 float32, {loss}, slipstick" in result.stdout


@pytest.mark.parametrize("script", [SCRIPT, TWO_HEADS], ids=lambda path: path.name)
def test_a_wrong_shape_is_named(script):
    result = run("40,16", script=script)
    assert result.returncode == 2
    assert "shape is '40,16'; expected three positive numbers" in result.stderr


def largest_difference(steps, picture):
    result = run("--curve", "--steps", str(steps), "--png", picture)
    assert result.returncode == 0, result.stderr
    if importlib.util.find_spec("matplotlib"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    else:
        assert "matplotlib is not installed; no picture was drawn" in result.stderr and not picture.exists()
    return float(result.stdout.rpartition("largest difference ")[2])


def test_a_language_model_begins_on_the_same_curve(tmp_path):
    assert largest_difference(12, tmp_path / "curve.png") <= 1e-4


@pytest.mark.long
def test_a_language_model_trains_to_the_same_curve(tmp_path):
    assert largest_difference(300, tmp_path / "curve.png") <= 5e-3  # rounding errors grow with the steps
