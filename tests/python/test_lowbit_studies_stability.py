# Contract: a sweep runs every combination in order, records what is reported, stops a run at its divergence, and its table, rates, sensitivity
# and plot follow from the runs.
from __future__ import annotations

import io
import math

import numpy as np
import pytest

from slipstick.lowbit.studies import learning_rate_sensitivity, sweep


def descend(format, seed, learning_rate):
    """x <- x - rate x: converges below rate 2, grows above; the sharpness reported is the rate."""
    x = 1.0 + seed
    for _ in range(40):
        yield x * x / 2, learning_rate
        x -= learning_rate * x


def run(model_fn=descend, formats=("a", "b"), seeds=(0, 1), learning_rates=(0.5, 3.0), **options):
    return sweep(model_fn, formats, seeds, learning_rates, **{"progress": False, **options})


def test_every_combination_runs_once_in_order():
    runs = run().runs
    assert [(r.format, r.learning_rate, r.seed) for r in runs] == [(f, rate, s) for f in "ab" for rate in (0.5, 3.0) for s in (0, 1)]
    assert [r.diverged for r in runs] == [False, False, True, True] * 2


def test_losses_and_sharpness_are_those_reported():
    first = run().runs[0]
    assert first.losses.tolist() == [0.5 * 0.25**step for step in range(40)]
    assert first.sharpness.tolist() == [0.5] * 40
    assert first.final_loss == pytest.approx(np.mean(first.losses[-4:]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e9])
def test_a_run_ends_at_the_step_that_diverges_and_its_generator_is_closed(bad):
    closed = []

    def model(format, seed, learning_rate):
        try:
            yield from [3.0, 2.0, bad, 1.0]
        finally:
            closed.append(True)

    one = run(model, ["a"], [0], [1], loss_limit=1e6).runs[0]
    assert one.diverged
    assert len(one.losses) == 3
    assert closed == [True]


def test_a_run_that_ends_no_better_than_it_began_is_diverged():
    for losses, diverged in [([2.0, 1.0], False), ([2.0, 2.0], True), ([2.0, 5.0], True), ([2.0], False)]:
        assert run(lambda losses=losses, **of: losses, ["a"], [0], [1]).runs[0].diverged is diverged


def test_sharpness_may_be_missing_at_some_steps():
    result = run(lambda **of: [(2.0, 5.0), (1.5, None), 1.0], ["a"], [0], [1])
    assert np.array_equal(result.runs[0].sharpness, [5.0, math.nan, math.nan], equal_nan=True)
    assert result.table().splitlines()[1].split()[-1] == "5"


def test_numpy_and_torch_like_numbers_are_taken():
    class Scalar:
        def __float__(self):
            return 1.5

    assert run(lambda **of: [np.float32(2), Scalar()], ["a"], [0], [1]).runs[0].losses.tolist() == [2.0, 1.5]


def test_none_can_be_a_format():
    result = run(lambda format, **of: [2.0, 1.0 if format is None else 3.0], [None, "a"], [0], [1])
    assert [result.divergence_rate(None), result.divergence_rate("a")] == [0, 1]
    assert math.isnan(result.divergence_rate("b"))


def test_table_has_a_line_for_each_format_and_rate():
    class Named:
        name = "e4m3"

    result = run(formats=[Named(), "b"])
    lines = result.table().splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["e4m3", "0.5", "2", "0"],
        ["e4m3", "3", "2", "2"],
        ["b", "0.5", "2", "0"],
        ["b", "3", "2", "2"],
    ]
    assert lines[2].split()[4:] == ["-", "-", "-", "3"]
    markdown = result.table(markdown=True).splitlines()
    assert len(markdown) == 6
    assert {line.count("|") for line in markdown} == {9}


def test_progress_is_reported_after_each_run(capsys):
    seen = []
    run(progress=lambda done, total, one: seen.append((done, total, one.seed)))
    assert seen == [(i + 1, 8, i % 2) for i in range(8)]
    assert capsys.readouterr() == ("", "")
    run(progress=True)
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 8
    assert output.err.splitlines()[-1] == "[" + "#" * 30 + "] 8/8 b rate 3 seed 1: diverged"
    run(progress=None)  # standard error is no terminal here
    assert capsys.readouterr() == ("", "")


def test_the_bar_of_a_terminal_stays_on_one_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    run(progress=None)
    assert terminal.getvalue().count("\r[") == 8
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("8/8 b rate 3 seed 1: diverged\x1b[K\n")


def test_sensitivity_is_the_check_value_and_zero_where_all_rates_are_equal():
    assert learning_rate_sensitivity([3.0, 2.5, 9.0, math.inf], 10.0) == 3.625
    assert learning_rate_sensitivity([3.0, 2.5, 9.0, math.nan], 10.0) == 3.625
    assert learning_rate_sensitivity([2.0, 2.0], 10.0) == 0
    assert learning_rate_sensitivity([math.nan, math.nan], 10.0) == 0
    assert learning_rate_sensitivity([20.0, 2.0], 10.0) == 4


def test_sensitivity_of_a_sweep_counts_a_rate_with_a_diverged_run_as_the_initial_loss():
    def model(format, seed, learning_rate):
        return [10.0, math.nan if learning_rate == 2 and seed == 1 else learning_rate + seed]

    result = run(model, ["a"], [0, 1], [1, 2])
    assert result.sensitivity("a") == learning_rate_sensitivity([1.5, 10.0], 10.0)
    assert result.sensitivity("a", initial_loss=4.0) == learning_rate_sensitivity([1.5, 4.0], 4.0)
    with pytest.raises(ValueError, match=r"sensitivity: format is 'b'; expected one of \['a'\]"):
        result.sensitivity("b")


class Axis:
    """Stands in for an axis of matplotlib and keeps what is drawn."""

    def __init__(self):
        self.lines, self.calls = {}, []

    def plot(self, x, y, *, marker, label):
        self.lines[label] = (list(x), list(y))

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


def test_plot_draws_losses_rates_and_sharpness_of_every_format_on_given_axes():
    axes = [Axis(), Axis(), Axis()]
    result = run()
    assert result.plot(axes) is axes
    loss = np.median([result.runs[0].final_loss, result.runs[1].final_loss])
    assert axes[0].lines.keys() == {"a", "b"}
    assert axes[0].lines["a"][1][0] == loss
    assert math.isnan(axes[0].lines["a"][1][1])
    assert axes[1].lines["b"] == ([0.5, 3.0], [0, 1])
    assert axes[2].lines["b"] == ([0.5, 3.0], [0.5, 3.0])
    assert ("legend",) in axes[0].calls
    assert all(("set_xscale", "log") in axis.calls for axis in axes)


def test_plot_makes_a_figure_of_matplotlib():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = run().plot()
    assert [axis.get_title() for axis in axes] == ["final loss", "share of runs that diverged", "largest sharpness"]
    assert [len(axis.lines) for axis in axes] == [2, 2, 2]


def test_plot_without_matplotlib_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="plot: matplotlib is not installed"):
        run().plot()


@pytest.mark.parametrize(("change", "kind", "message"), [
    ({"model_fn": 3}, TypeError, "sweep: model_fn is 3; expected a function"),
    ({"formats": "e4m3"}, TypeError, "sweep: formats is 'e4m3'; expected several, as in ['e4m3']"),
    ({"learning_rates": ["0.1"]}, TypeError, "sweep: learning_rates is '0.1'; expected a number"),
    ({"formats": []}, ValueError, "sweep: formats is empty; expected at least one"),
    ({"seeds": []}, ValueError, "sweep: seeds is empty; expected at least one"),
    ({"seeds": [0.5]}, TypeError, "sweep: seeds is 0.5; expected a whole number of at least 0"),
    ({"learning_rates": [0]}, ValueError, "sweep: learning_rates is 0.0; expected a finite number, greater than 0"),
    ({"loss_limit": math.nan}, ValueError, "sweep: loss_limit is nan; expected a finite number"),
    ({"model_fn": lambda **of: []}, ValueError, "sweep: model_fn reported nothing for format 'a', seed 0, learning rate 0.5; expected a loss a step"),
    ({"model_fn": lambda **of: ["low"]}, TypeError, "sweep: model_fn reported 'low'; expected a loss, or a pair of loss and sharpness"),
    ({"model_fn": lambda **of: [(1, 2, 3)]}, TypeError, "sweep: model_fn reported (1, 2, 3); expected a loss, or a pair of loss and sharpness"),
])  # fmt: skip
def test_bad_arguments_are_refused(change, kind, message):
    with pytest.raises(kind) as error:
        run(**change)
    assert str(error.value) == message


def test_errors_of_the_model_come_through():
    def model(**of):
        raise MemoryError("too large")

    with pytest.raises(MemoryError, match="too large"):
        run(model)
