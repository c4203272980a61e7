"""All rooms, one after the other: the tables of every benchmark in one report, with the machine and the versions.

    python benchmarks/run.py --quick             # minutes; small shapes, one or two samples
    python benchmarks/run.py --output report.md  # the figures of the README, about an hour

Each benchmark runs in a process of its own, its cases interleaved, and says itself when the machine was too busy to be trusted. One that needs
a package which is not installed, or that fails, is named in the report, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import subprocess
import sys
from typing import NamedTuple

import harness

FOLDER = pathlib.Path(__file__).resolve().parent
PEERS = ("torch", "numpy", "scipy", "ml_dtypes", "scikit-learn", "zstandard", "brotli", "torchao", "gfloat", "pychop")


class Benchmark(NamedTuple):
    """A script of this folder: title, script, arguments of the full and of the quick run, and the packages without which it says nothing."""

    title: str
    script: str
    full: str
    quick: str
    needs: tuple[str, ...] = ()


BENCHMARKS = {
    "logs": Benchmark("Logs packed and unpacked", "logs.py", "--runs 3", "--runs 1 --made-bytes 1000000 --levels fast,default"),
    "losses": Benchmark(
        "Losses of a linear head", "losses.py", "--runs 5", "128,64,4096 --dtypes float32 --runs 2 --no-memory", ("torch",)
    ),
    "two_heads": Benchmark("Losses of two heads", "two_heads.py", "--runs 3", "64,32,2048 --runs 1 --no-memory", ("torch",)),
    "spherical": Benchmark("SphericalHead", "spherical.py", "--runs 7", "--classes 5000 --batches 1,32 --runs 2"),
    "lowbit": Benchmark("Small number formats", "lowbit.py", "--runs 7", "--elements 1000000 --size 128 --runs 2"),
    "sketch": Benchmark("Least squares", "sketch.py", "--runs 3", "--sizes 50000x50 --runs 1 --no-memory"),
}


def section(benchmark: Benchmark, arguments: str) -> tuple[str, bool]:
    """The section of one benchmark, and whether it has its figures."""
    command = f"python benchmarks/{benchmark.script} {arguments} --markdown"
    head = f"## {benchmark.title}\n\n`{command}`\n\n"
    missing = [name for name in benchmark.needs if importlib.util.find_spec(name) is None]
    if missing:
        return f"{head}Left out: {', '.join(missing)} is not installed.\n", False
    result = subprocess.run(
        [sys.executable, str(FOLDER / benchmark.script), *arguments.split(), "--markdown"], capture_output=True, text=True, check=False
    )
    if result.returncode:
        return f"{head}Failed with status {result.returncode}:\n\n```\n{result.stderr.strip()}\n```\n", False
    return f"{head}{result.stdout.strip()}\n", True


def report_head(quick: bool) -> str:
    machine, versions = harness.machine(), harness.package_versions(("slipstick", *PEERS))
    lines = [
        "# slipstick measured" + (" quickly: shapes too small for conclusions" if quick else ""),
        "",
        f"{machine['processor']}, {machine['usable_processors']} processors, {machine['system']}, Python {machine['python']};"
        f" {', '.join(f'{name} {version}' for name, version in versions.items())}; commit {harness.commit()[:12] or 'unknown'}.",
    ]
    return "\n".join([*lines, *(f"\nWarning: {warning}." for warning in harness.load_warnings()), ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="BENCHMARK", help=f"some of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that everything runs")
    parser.add_argument("--output", metavar="FILE", help="also write the report there")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rooms if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; expected some of {', '.join(BENCHMARKS)}")
    parts, whole = [report_head(arguments.quick)], True
    print(parts[0], flush=True)
    for name in arguments.rooms or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        text, done = section(benchmark, benchmark.quick if arguments.quick else benchmark.full)
        print(text, flush=True)
        parts.append(text)
        whole &= done
    if arguments.output:
        pathlib.Path(arguments.output).write_text("\n".join(parts), "utf-8")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
