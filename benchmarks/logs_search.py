"""How long a search takes in an archive that stays packed, beside zstd -dc | grep, which unpacks it.

    python benchmarks/logs_search.py LOG PATTERN...          a pattern that is nowhere is searched, too

Each line is a shell command as a user types it, so the start of the Python interpreter counts: run this with a Python into which a wheel is
installed, whose files are compiled; an editable install has a finder that takes longer to import than all else. "library" is the same search
called from a program that runs already. Programs count the lines with a fixed string, and all counts are compared before a figure is printed. Samples of
all programs are interleaved; wall and CPU time (of all processes of a command) are medians.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import harness

NOWHERE = "no line has watermelon"  # a string that no log has


def command(line: str) -> Callable[[], tuple[int, float, float]]:
    """Runs a shell command that prints a count: the count, wall and CPU seconds."""

    def run() -> tuple[int, float, float]:
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        printed = subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE).stdout
        wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        return int(printed), wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return run


def library(path: str, pattern: str) -> Callable[[], tuple[int, float, float]]:
    def run() -> tuple[int, float, float]:
        from slipstick import logs

        begin, cpu = time.perf_counter(), time.process_time()
        with logs.Archive(path) as archive:
            count = sum(1 for _ in archive.grep(pattern, syntax="fixed", threads=1))
        return count, time.perf_counter() - begin, time.process_time() - cpu

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--levels", default="fast,default")
    arguments = parser.parse_args()
    if not shutil.which("zstd") or not shutil.which("grep"):
        raise SystemExit("nothing to compare with: zstd and grep are wanted")
    # python -m has to import what runs modules
    installed = shutil.which("slipstick", path=os.path.dirname(sys.executable))
    slipstick = shlex.quote(installed) if installed else f"{shlex.quote(sys.executable)} -m slipstick.cli"
    import zstandard

    from slipstick import logs

    raw, levels = pathlib.Path(arguments.log).read_bytes(), arguments.levels.split(",")
    table = []
    with tempfile.TemporaryDirectory(prefix="benchmark-search-") as scratch:
        for level in levels:
            pathlib.Path(scratch, level).write_bytes(logs.compress(raw, level=level))
        pathlib.Path(scratch, "log.zst").write_bytes(zstandard.ZstdCompressor(level=3).compress(raw))
        for pattern in [NOWHERE, *arguments.patterns]:
            quoted = shlex.quote(pattern)
            programs = {"zstd -dc | grep -c -F": command(f"zstd -dc {scratch}/log.zst | LC_ALL=C grep -a -c -F -e {quoted}")}
            for level in levels:
                programs[f"slipstick grep -c -F, {level}"] = command(f"{slipstick} grep -j 1 -c -F -- {quoted} {scratch}/{level}")
                programs[f"library, {level}"] = library(os.path.join(scratch, level), pattern)
            samples: dict[str, list[tuple[int, float, float]]] = {name: [] for name in programs}
            for _ in range(arguments.runs):
                for name, run in programs.items():
                    samples[name].append(run())
            counts = {sample[0] for each in samples.values() for sample in each}
            if len(counts) != 1:
                raise SystemExit(f"{pattern!r}: the programs count different lines: {counts}")
            for name, each in samples.items():
                wall, cpu = (statistics.median(sample[i] for sample in each) * 1000 for i in (1, 2))
                table.append([pattern, str(counts.copy().pop()), name, harness.significant(wall), harness.significant(cpu)])
    print(f"{arguments.log}: {len(raw)} bytes")
    print(harness.text_table(["string", "lines", "program", "wall ms", "CPU ms"], table))
    machine = harness.machine()
    print(f"{machine['processor']}, {machine['usable_processors']} processors; commit {harness.commit()[:12] or 'unknown'}")
    for warning in harness.load_warnings():
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    main()
