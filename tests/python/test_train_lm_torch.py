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


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny matrices, and tests beside each other: further threads would wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    exact, coarse = train_lm.Masked(23), train_lm.Masked(1)
    first, again, other = ([loss for loss, _, _ in train_lm.spikes_run(kind, 0, 1e-2, 3)] for kind in (exact, exact, coarse))
    assert first == again
    assert other != first
    assert other == pytest.approx(first, rel=0.1)


def test_the_controls_of_the_spike_study_change_one_thing_each(train_lm):
    """Before the first update only the forward pass counts: nearest rounding differs there, a gradient and a penalty only after it."""
    coarse = train_lm.Masked(1)
    losses = {kind.name: [loss for loss, _, _ in train_lm.spikes_run(kind, 0, 1e-2, 3)] for kind in (coarse, *coarse.controls())}
    assert list(losses) == ["e8m1", "e8m1, nearest", "e8m1, float32 logit gradient", "e8m1, z-loss 0.01"]
    truncated = losses.pop("e8m1")
    for name, values in losses.items():
        assert (values[0] == truncated[0]) == (name != "e8m1, nearest"), name
        assert values[2] != truncated[2], name


def test_the_paired_test_is_the_exact_one(train_lm):
    """Tails of a fair coin: 10 of 10 in 2 of 1024 cases, 7 or more of 8, or as few, in 18 of 256."""
    assert train_lm.paired_p(0, 0) == 1
    assert train_lm.paired_p(10, 0) == train_lm.paired_p(0, 10) == 2 / 1024
    assert train_lm.paired_p(7, 1) == 18 / 256
    assert train_lm.paired_p(3, 3) == 1


def test_spikes_are_rises_above_the_median_counted_once(train_lm):
    calm = [0.1, -0.1] * 15
    assert train_lm.spike_count(calm) == 0
    assert train_lm.spike_count([*calm, 0.7, 0.9, 0.0, 2.0, 0.0]) == 2
    assert train_lm.spike_count([*calm, float("nan")]) == 1


def test_a_row_collapses_when_the_rest_of_its_sum_is_below_half_a_unit(train_lm):
    """One logit of 0 and another of -gap: e^-gap against 2^-11 of float16, which keeps 11 bits, and 2^-24 of float32."""
    targets = torch.zeros(1, dtype=torch.int64)
    for gap, kinds in (
        (7, set()),
        (9, {"softmax float16"}),
        (16, {"softmax float16"}),
        (18, {"softmax float16", "softmax", "perpendicular"}),
    ):
        head = torch.tensor([[0.0], [-float(gap)]])
        found = {kind: train_lm.collapsed_share(kind, torch.ones(1, 1), head, targets) for kind in train_lm.CURES}
        assert found == {kind: float(kind in kinds) for kind in train_lm.CURES}, gap


@pytest.mark.parametrize("kind", ["softmax float16", "softmax", "stablemax", "perpendicular"])
def test_the_collapse_study_learns_what_it_sees(train_lm, kind):
    (_, before, _, chance), *_, (step, after, collapsed, _) = train_lm.collapse_run(kind, 60, 0, 11, 0.6)
    assert step == 60
    assert before > 2
    assert chance < 0.5
    assert after < before / 10
    assert 0 <= collapsed <= 1


@pytest.mark.parametrize(
    ("study", "rows"), [("spikes", ["e8m23", "e8m1"]), ("collapse", ["softmax float16", "softmax", "stablemax", "perpendicular"])]
)
def test_a_quick_study_prints_its_table_and_draws(train_lm, study, rows, tmp_path, capsys):
    path = tmp_path / "curves.png"
    train_lm.main(["--study", study, "--quick", "--plot", str(path)])
    lines = capsys.readouterr().out.splitlines()
    for row in rows:
        assert any(row in line for line in lines[1:]), row
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return
    assert path.read_bytes().startswith(b"\x89PNG")


def test_steps_of_runs_that_got_there_are_a_range_and_a_count(train_lm):
    assert train_lm.reached([None, None]) == "never"
    assert train_lm.reached([250, 250]) == "250"
    assert train_lm.reached([400, None, 250]) == "250-400 in 2 of 3"


def test_the_spike_study_wants_float32_among_its_formats(train_lm, capsys):
    with pytest.raises(SystemExit):
        train_lm.parse_arguments(["--study", "spikes", "--mantissa-bits", "3", "1"])
    assert "--mantissa-bits is [3, 1]; expected 23 among them" in capsys.readouterr().err
