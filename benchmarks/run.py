"""All rooms, one after the other: the tables of every benchmark in one report, and a chart of each, with the machine and the versions.

    python benchmarks/run.py            # about an hour; benchmarks/results/report.md and report-NAME.png
    python benchmarks/run.py --quick    # minutes, small shapes, one or two samples; benchmarks/results/quick.md and quick-NAME.png

Each benchmark runs in a process of its own, its cases interleaved, and says itself when the machine was too busy to be trusted. One that needs
a package which is not installed, or that fails, is named in the report, the others go on, and the exit status is 1. Charts want matplotlib.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import harness

FOLDER = pathlib.Path(__file__).resolve().parent
PEERS = ("torch", "numpy", "scipy", "ml_dtypes", "scikit-learn", "zstandard", "brotli", "torchao", "gfloat", "pychop")


class Chart(NamedTuple):
    """Bars of a benchmark's first table: a group for each row, named by the cells of `labels`, in it a bar for each column of `values`."""

    axis: str
    labels: Sequence[int]
    values: Sequence[int]


class Benchmark(NamedTuple):
    """A script of this folder: title, script, arguments of the full and of the quick run, its chart, and the packages without which it says nothing."""

    title: str
    script: str
    full: str
    quick: str
    chart: Chart
    needs: tuple[str, ...] = ()


OF_EAGER = Chart("time, of torch's eager loss", (0,), (2, 4))
BENCHMARKS = {
    "logs": Benchmark(
        "Logs packed and unpacked",
        "logs.py",
        "--runs 3 --peers all",
        "--runs 1 --made-bytes 1000000 --levels fast,default",
        Chart("raw bytes over packed bytes", (0,), range(2, 16)),
    ),
    "losses": Benchmark(
        "Losses of a linear head", "losses.py", "--runs 5", "128,64,4096 --dtypes float32 --runs 2 --no-memory", OF_EAGER, ("torch",)
    ),
    "two_heads": Benchmark("Losses of two heads", "two_heads.py", "--runs 3", "64,32,2048 --runs 1 --no-memory", OF_EAGER, ("torch",)),
    "spherical": Benchmark(
        "SphericalHead",
        "spherical.py",
        "--runs 7",
        "--classes 5000 --batches 1,32 --runs 2",
        Chart("ms a step, by rows a step", (0,), range(1, 5)),
    ),
    "lowbit": Benchmark(
        "Small number formats",
        "lowbit.py",
        "--runs 7",
        "--elements 1048576 --size 128 --runs 2",
        Chart("speed, of the other's", (0, 2), (3,)),
    ),
    "sketch": Benchmark(
        "Least squares", "sketch.py", "--runs 3", "--sizes 50000x50 --runs 1 --no-memory", Chart("time, in reads of A", (0, 1), (3,))
    ),
}


def first_table(markdown: str) -> list[list[str]]:
    """The cells of the first table in a text, the head first; empty where there is none."""
    lines = markdown.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith("| ")), len(lines))
    end = next((i for i in range(begin, len(lines)) if not lines[i].startswith("| ")), len(lines))
    return [[cell.strip(" *") for cell in line.strip("| ").split(" | ")] for line in lines[begin:end] if not line.startswith("| ---")]


def figure_of(cell: str) -> float | None:
    try:
        return float(cell.rstrip("x%"))
    except ValueError:
        return None


def draw(path: pathlib.Path, benchmark: Benchmark, text: str) -> bool:
    """A chart of a section as a PNG. False where there is nothing to draw, or no matplotlib."""
    table, chart = first_table(text), benchmark.chart
    if not table or not importlib.util.find_spec("matplotlib"):
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    head, rows = table[0], table[1:]
    columns = [column for column in chart.values if column < len(head)]
    figures, axes = pyplot.subplots(figsize=(9, 1.2 + 0.16 * len(rows) * (len(columns) + 1)), layout="constrained")
    for place, column in enumerate(columns):
        bars = [(i + place / (len(columns) + 1), figure_of(row[column])) for i, row in enumerate(rows)]
        drawn = [(at, value) for at, value in bars if value]
        shown = axes.barh(
            [at for at, _ in drawn], [value for _, value in drawn], 1 / (len(columns) + 1), label=head[column - (head[column] == "ratio")]
        )
        axes.bar_label(shown, fmt=" {:.3g}", fontsize=7)
    axes.set_yticks([i + (len(columns) - 1) / 2 / (len(columns) + 1) for i in range(len(rows))])
    axes.set_yticklabels([" · ".join(row[label] for label in chart.labels) for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(chart.axis)
    axes.set_title(benchmark.title)
    if len(columns) > 1:
        axes.legend(fontsize=7)
    figures.savefig(path, dpi=120)
    pyplot.close(figures)
    return True


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
    parser.add_argument(
        "--output", metavar="FOLDER", help="of report and charts (default: results, beside this script)", default=FOLDER / "results"
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rooms if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; expected some of {', '.join(BENCHMARKS)}")
    folder, stem = pathlib.Path(arguments.output), "quick" if arguments.quick else "report"
    folder.mkdir(parents=True, exist_ok=True)
    report, whole = folder / f"{stem}.md", True
    parts = [report_head(arguments.quick)]
    print(parts[0], flush=True)
    for name in arguments.rooms or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        text, done = section(benchmark, benchmark.quick if arguments.quick else benchmark.full)
        picture = folder / f"{stem}-{name}.png"
        if done and draw(picture, benchmark, text):
            text += f"\n![{benchmark.title}]({picture.name})\n"
        print(text, flush=True)
        parts.append(text)
        report.write_text("\n".join(parts), "utf-8")  # what is there stays if a later one is interrupted
        whole &= done
    print(f"{report} has all of this", file=sys.stderr)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
