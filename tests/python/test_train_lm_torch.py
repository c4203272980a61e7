# Contract: benchmarks/train_lm.py trains in small formats, its log comes back from its archive, and its two studies measure what they say.
from __future__ import annotations

import argparse
import pathlib
import sys

import pytest

torch = pytest.importorskip("torch")

from slipstick import logs  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def train_lm():
    folder = str(pathlib.Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import train_lm
    finally:
        sys.path.remove(folder)
    return train_lm


def test_it_trains_in_small_formats_and_packs_its_log(train_lm, tmp_path, capsys):
    arguments = argparse.Namespace(
        seed=0, learning_rate=1e-2, z_loss=1e-4, weights="e4m3fn", activations="e4m3fn", gradients="e5m2", steps=12, log=tmp_path / "a.log"
    )
    train_lm.train(arguments)
    lines = (tmp_path / "a.log").read_text("utf-8").splitlines()
    values = [float(line.split("loss=")[1].split()[0]) for line in lines]
    assert len(values) == 12
    assert values[-1] < values[0] - 0.3
    assert logs.decompress((tmp_path / "a.log.slip").read_bytes()) == (tmp_path / "a.log").read_bytes()
    assert "every byte came back" in capsys.readouterr().out


def test_runs_of_the_spike_study_read_the_same_text_and_differ_by_format(train_lm):
    first, again, coarse = ([loss for loss, _ in train_lm.spikes_run(bits, 0, 1e-2, 3)] for bits in (23, 23, 1))
    assert first == again
    assert coarse != first
    assert coarse == pytest.approx(first, rel=0.1)


def test_spikes_are_rises_above_the_median_counted_once(train_lm):
    calm = [0.1, -0.1] * 15
    assert train_lm.spike_count(calm) == 0
    assert train_lm.spike_count([*calm, 0.7, 0.9, 0.0, 2.0, 0.0]) == 2
    assert train_lm.spike_count([*calm, float("nan")]) == 1


@pytest.mark.parametrize("kind", ["softmax", "stablemax", "perpendicular"])
def test_the_collapse_study_learns_what_it_sees(train_lm, kind):
    (_, before, _, chance), (step, after, collapsed, _) = train_lm.collapse_run(kind, 100, 0, 11)
    assert step == 100
    assert before > 2
    assert chance < 0.5
    assert after < before / 10
    assert 0 <= collapsed <= 1
