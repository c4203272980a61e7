"""What all benchmarks share: samples from fresh child processes, their medians and spread, a record of the machine, and tables.

A benchmark calls measure_in_child() once a sample. The child is the same script started again with a task as JSON; it answers
with JSON. A fresh process a sample makes its peak of memory its own and lets no sample warm the next one's allocator.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

MEGABYTE = 1e6
CHILD_FLAG = "--child-task"
MOST_SPREAD = 0.10  # of the median; above it a table says that the machine was not quiet
MOST_LOAD = 0.5  # processes that want to run before we start
MOST_WAITING = 0.15  # share of a sample's time in which its process did not run


class Clock:
    """CPU time of this process and its children, in all threads, summed over the blocks run under `with`."""

    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.wall_seconds = 0.0

    def __enter__(self) -> None:
        self._cpu, self._wall = _cpu_seconds(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu_seconds += _cpu_seconds() - self._cpu
        self.wall_seconds += time.perf_counter() - self._wall


def _cpu_seconds() -> float:
    spent = os.times()  # of children; its clock ticks in 10 ms, so that of this process is read elsewhere
    return time.process_time() + spent.children_user + spent.children_system


def peak_memory_bytes() -> int:
    """The most memory that this process, or a child it has waited for, has held at once."""
    import resource

    # Not ru_maxrss for this process: it counts what the parent held when it forked.
    status = pathlib.Path("/proc/self/status").read_text("ascii")
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def serve_child_task(run: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Where this process is a child of measure_in_child(), runs its task, prints the answer and exits."""
    if CHILD_FLAG in sys.argv:
        answer = run(json.loads(sys.argv[sys.argv.index(CHILD_FLAG) + 1]))
        print(json.dumps({**answer, "peak_bytes": peak_memory_bytes()}))
        sys.exit(0)


def measure_in_child(script: str, task: dict[str, Any]) -> dict[str, Any]:
    """The answer to one task of a fresh process, kept to one thread.

    Raises:
        RuntimeError: the child failed; the message holds its task and what it wrote.
    """
    one_thread = dict.fromkeys(("SLIPSTICK_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    result = subprocess.run(
        [sys.executable, script, CHILD_FLAG, json.dumps(task)], env={**os.environ, **one_thread}, capture_output=True, text=True
    )
    if result.returncode != 0:
        raise RuntimeError(f"{task} failed with status {result.returncode}:\n{result.stderr}")
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@dataclasses.dataclass
class Samples:
    """CPU and wall seconds of one case, one entry a run."""

    cpu_seconds: list[float] = dataclasses.field(default_factory=list)
    wall_seconds: list[float] = dataclasses.field(default_factory=list)

    def add(self, answer: dict[str, Any]) -> None:
        self.cpu_seconds.append(answer["cpu_seconds"])
        self.wall_seconds.append(answer["wall_seconds"])

    @property
    def median(self) -> float:
        return statistics.median(self.cpu_seconds)

    @property
    def spread(self) -> float:
        """Largest less smallest, as a share of the median; 0 for one sample."""
        return (max(self.cpu_seconds) - min(self.cpu_seconds)) / self.median if self.median else 0.0

    @property
    def waiting(self) -> float:
        """Median share of the time in which the process did not run: others had the processor, or it waited for a disk."""
        return statistics.median(1 - cpu / wall if wall else 0.0 for cpu, wall in zip(self.cpu_seconds, self.wall_seconds, strict=True))


def load_warnings() -> list[str]:
    """To be called before the first sample."""
    load = os.getloadavg()[0]
    return [f"load average is {load:.1f} before the first sample; expected at most {MOST_LOAD}"] if load > MOST_LOAD else []


def sample_warnings(cases: dict[str, Samples]) -> list[str]:
    """At most two: on cases whose samples differ, and on cases that had to wait; each names the worst."""
    warnings = []
    spread = {name: samples.spread for name, samples in cases.items() if samples.spread > MOST_SPREAD}
    if spread:
        worst = max(spread, key=spread.__getitem__)
        warnings.append(
            f"samples of {len(spread)} of {len(cases)} cases spread over more than {MOST_SPREAD:.0%} of their median; worst: {worst}, {spread[worst]:.0%}"
        )
    waiting = {name: samples.waiting for name, samples in cases.items() if samples.waiting > MOST_WAITING}
    if waiting:
        worst = max(waiting, key=waiting.__getitem__)
        warnings.append(
            f"in {len(waiting)} of {len(cases)} cases the process did not run for more than {MOST_WAITING:.0%} of its time; "
            f"worst: {worst}, {waiting[worst]:.0%}"
        )
    return warnings


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code: processor, memory, system, versions."""
    return {
        "processor": _first_match("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "usable_processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _first_match(path: str, key: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "")
    except OSError:
        return ""


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of the distributions that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def commit() -> str:
    """The commit of the tree that this file is in, with "+" behind it when tracked files differ; "" outside git."""
    folder = pathlib.Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_json(path: str, record: dict[str, Any]) -> None:
    pathlib.Path(path).write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def significant(value: float) -> str:
    """Three digits, without an exponent: 0.512, 51.2, 512, 5120."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns in line, the first one to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join([cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))])

    return "\n".join(map(line, [head, *rows]))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def bold(cell: str) -> str:
    return f"**{cell}**"
