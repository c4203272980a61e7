# Contract: the recipes in examples/ do what they say. The oracle is the raw bytes.
from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from slipstick import logs

RECIPE = pathlib.Path(__file__).parents[2] / "examples" / "pack_with_dask.py"


def test_dask_packs_a_folder_on_processes_into_one_archive(tmp_path):
    pytest.importorskip("dask")
    (tmp_path / "logs").mkdir()
    raws = [b"".join(b"worker %d did job %d\n" % (number, i) for i in range(500 * number)) + b"end" for number in range(5)]
    for number, raw in enumerate(raws):
        (tmp_path / "logs" / f"{number}.log").write_bytes(raw)
    result = subprocess.run([sys.executable, RECIPE, tmp_path / "logs", tmp_path / "all.slip"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert logs.decompress((tmp_path / "all.slip").read_bytes()) == b"".join(raws)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.slip", "logs"]


def test_dask_refuses_a_target_that_exists_before_it_packs(tmp_path):
    pytest.importorskip("dask")
    (tmp_path / "all.slip").write_bytes(b"mine")  # and there is no folder to pack, which it does not come to see
    result = subprocess.run([sys.executable, RECIPE, "logs", "all.slip"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and "all.slip exists" in result.stderr
    assert (tmp_path / "all.slip").read_bytes() == b"mine"


def test_dask_packs_a_folder_on_a_local_cluster(tmp_path):
    pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    (tmp_path / "logs").mkdir()
    for number in range(3):
        (tmp_path / "logs" / f"{number}.log").write_bytes(b"line %d\n" % number * 1000)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        # Relative paths mean this folder, not the workers'.
        words = [sys.executable, RECIPE, "logs", "all.slip", "--cluster", cluster.scheduler_address]
        assert subprocess.run(words, cwd=tmp_path).returncode == 0
    assert logs.decompress((tmp_path / "all.slip").read_bytes()) == b"".join(b"line %d\n" % number * 1000 for number in range(3))
