# Contract: the demonstration of the losses gives torch's loss, and counts the memory that torch's way takes.
from __future__ import annotations

import importlib

import pytest

from slipstick import demos

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_losses_agree_and_memory_is_counted(monkeypatch):
    losses_demo = importlib.import_module("slipstick.demos.losses")
    monkeypatch.setattr(losses_demo, "ROWS", 512)
    monkeypatch.setattr(losses_demo, "VOCABULARY", 20_000)
    report = demos.run("losses")
    ours, theirs = report.rows
    assert float(ours[3]) == pytest.approx(float(theirs[3]), rel=1e-5)
    if theirs[2] != "?":
        assert float(theirs[2].replace(",", "")) > 512 * 20_000 * 4 / 1e6, "the logits at least"
    for width in (40, 60):
        assert max(map(len, report.text(width).splitlines())) <= width
