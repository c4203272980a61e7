# Contract: all_reduce leaves in every process the state of all rows, and refuses states that do not belong together, everywhere.
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from slipstick import sketch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

WORKER = """
import sys
import numpy as np, torch, torch.distributed as dist
from slipstick import sketch
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + folder + "/meeting", rank=rank, world_size=2)
A, b = np.load(folder + "/A.npy"), np.load(folder + "/b.npy")
first, last = (0, 700) if rank == 0 else (700, 2000)
state = sketch.SketchedLeastSquares(6, seed=4).partial_fit(A[first:last], b[first:last], first_row=first)
open(folder + f"/state{rank}", "wb").write(state.all_reduce().to_bytes())
try:
    state.all_reduce()
except ValueError as error:
    assert str(error) == "all_reduce: rows 0 to 1999 were seen before; expected new row numbers", error
else:
    raise AssertionError("rows were added twice")
try:
    sketch.SketchedLeastSquares(6, seed=rank).all_reduce()
except ValueError as error:
    assert str(error) == "all_reduce: seed is 1 on one process; expected 0", error
else:
    raise AssertionError("seeds were mixed")
dist.destroy_process_group()
"""


def test_two_processes_hold_the_state_of_all_rows(tmp_path):
    random = np.random.default_rng(0)
    A, b = random.standard_normal((2000, 6)), random.standard_normal(2000)  # noqa: N806
    np.save(tmp_path / "A.npy", A)
    np.save(tmp_path / "b.npy", b)
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    for worker in workers:
        assert worker.wait(timeout=120) == 0, worker.stderr.read()
        worker.stderr.close()
    want = sketch.SketchedLeastSquares(6, seed=4).partial_fit(A, b)
    for rank in (0, 1):
        state = sketch.SketchedLeastSquares.from_bytes((tmp_path / f"state{rank}").read_bytes())
        assert state.ranges == [(0, 2000)]
        np.testing.assert_allclose(state._gram, want._gram, rtol=1e-12, atol=1e-10)
        np.testing.assert_allclose(state._sketch, want._sketch, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(state.solve().x, sketch.lstsq(A, b).x, rtol=1e-11, atol=1e-14)
