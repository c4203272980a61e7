# Contract: benchmarks run from a command line, prove equal work before they print, and made logs are the same bytes everywhere. No figure that a
# clock made is looked at.
from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "logs.py"


@pytest.fixture
def made_logs(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("made_logs")


def run(*words):
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=300)


def test_a_packed_log_in_a_folder_is_measured_as_what_it_holds(tmp_path, made_logs):
    log = made_logs.make("made_syslog", 30000)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "system.log.gz").write_bytes(gzip.compress(log))
    (tmp_path / "logs" / "README.md").write_text("not a log")
    result = run(
        str(tmp_path / "logs"), "--levels", "default", "--peers", "zstd -3,gzip -9", "--runs", "2", "--json", str(tmp_path / "out.json")
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["logs"] == [
        {"name": "system.log", "raw_bytes": len(log), "lines": log.count(b"\n"), "sha256": hashlib.sha256(log).hexdigest()}
    ]
    assert [row["packer"] for row in record["rows"]] == ["slipstick default", "zstd -3", "gzip -9"]
    for row in record["rows"]:
        assert row["ratio"] == len(log) / row["packed_bytes"] > 1
        assert len(row["in_samples"]["cpu_seconds"]) == len(row["out_samples"]["cpu_seconds"]) == 2
        assert row["in_peak_bytes"] > 1 << 20
        assert f"{row['packer']}  " in result.stdout.replace("system.log", "")
    assert {"processor", "memory_bytes", "python"} <= record["machine"].keys()
    assert record["versions"]["slipstick"]


def test_markdown_has_the_best_ratio_in_bold(tmp_path, made_logs):
    (tmp_path / "a.log").write_bytes(made_logs.make("made_postgres", 30000))
    result = run(str(tmp_path / "a.log"), "--levels", "default", "--peers", "zstd -3", "--runs", "1", "--markdown")
    assert result.returncode == 0, result.stderr
    head, _, row = result.stdout.splitlines()[:3]
    assert head == "| ratio of | raw MB | slipstick default | zstd -3 |"
    assert row.startswith("| a.log | 0.030 | **") and row.count("**") == 2


def test_a_packer_that_changes_a_byte_gets_no_figure(tmp_path):
    (tmp_path / "a.log").write_bytes(b"line\n" * 1000)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import logs, harness\n"
        "measure = harness.measure_in_child\n"
        "harness.measure_in_child = lambda script, task: {**measure(script, task), **({'sha256': '0'} if task['direction'] == 'out' else {})}\n"
        "sys.argv[1:] = [sys.argv[2], '--levels', 'none', '--peers', 'zstd -3']\n"
        "logs.main()"
    )
    result = subprocess.run([sys.executable, "-c", code, SCRIPT.parent, tmp_path / "a.log"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert "zstd -3: a.log did not come back: SHA-256 is 0; expected" in result.stderr
    assert result.stdout == ""


def test_an_ablation_switches_techniques_off(tmp_path, made_logs):
    (tmp_path / "a.log").write_bytes(made_logs.make("made_syslog", 40000))
    result = run("--ablate", str(tmp_path / "a.log"), "--ablate-bytes", "30000")
    assert result.returncode == 0, result.stderr
    of_default, of_max = result.stdout.split("\n\n")
    assert of_default.startswith("| default: % larger | a.log |") and of_max.startswith("| max: % larger | a.log |")
    growth = {cells[1].strip(): cells[2].strip() for line in of_max.splitlines()[2:] if (cells := line.split("|"))}
    full = int(growth.pop("packed bytes"))
    assert full > 100
    # Each does something, and no single one is the whole coder.
    assert len(growth) >= 15 and all(value[0] in "+-" and -20 < float(value) < 200 for value in growth.values())
    assert sum(abs(float(value)) > 0.05 for value in growth.values()) > len(growth) / 2
    assert float(growth["without vocabulary"]) > 1


def test_unknown_peers_are_named():
    result = run("--peers", "zstd -3,lha")
    assert result.returncode == 2
    assert "--peers has 'lha'; expected some of zstd -3," in result.stderr


KNOWN = {
    "made_syslog": "c47abd11eadbae7b",
    "made_json_lines": "3cd2cf71f19e3622",
    "made_access_log": "19f9b67e5a9a872c",
    "made_java_service": "da7540cb7cfa5c90",
    "made_postgres": "815b9f18c70b06f3",
}


@pytest.mark.parametrize("kind", KNOWN)
def test_made_logs_are_the_same_everywhere(kind, made_logs):
    log = made_logs.make(kind, 100_000)
    assert 100_000 <= len(log) < 110_000 and log.endswith(b"\n")
    assert hashlib.sha256(log).hexdigest()[:16] == KNOWN[kind]


def test_every_kind_of_made_log_is_known(made_logs):
    assert made_logs.KINDS.keys() == KNOWN.keys()


def test_searches_are_compared_with_what_grep_counts(tmp_path, made_logs):
    if not shutil.which("zstd") or not shutil.which("grep"):
        pytest.skip("zstd and grep are not installed")
    log = made_logs.make("made_syslog", 60000)
    (tmp_path / "system.log").write_bytes(log)
    script = ROOT / "benchmarks" / "logs_search.py"
    result = subprocess.run(
        [sys.executable, script, tmp_path / "system.log", "sshd", "--runs", "1"], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("sshd")]
    assert len(rows) == 5
    assert {row[1] for row in rows} == {str(sum(b"sshd" in line for line in log.splitlines()))}
