"""Least squares on tall matrices: slipstick.sketch.lstsq beside what one would call today. One thread, CPU seconds.

    python benchmarks/sketch.py                                  # 1e6 x 100 and 2^20 x 256, condition 1e3 and 1e12
    python benchmarks/sketch.py --sizes 200000x100 --runs 5
    python benchmarks/sketch.py --stream 10                      # a file of 10 GB, made and removed, through SketchedLeastSquares

The solvers of one case share the matrix and take turns, so that a change in the machine's speed meets all of them. Every solution is compared with
the others by its backward error (Karlson and Walden), which stands in the table: the normal equations are quick because they do less.
Times are medians; the sketches and A.T @ A are timed beside a product A @ v, the price of reading A once.

--stream compares the wall time of a fit from a `.npy` file with that of reading the same file as fast as the disk gives it (O_DIRECT, two blocks of 16 MiB
in flight), in turns, each in a fresh process; before each the system is told to forget the file's pages. The fit has all processors: it is the wall time
that counts.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.util
import json
import mmap
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import harness

SIZES = "1000000x100,1048576x256"
CONDITIONS = "1e3,1e12"
SOLVERS = ("slipstick", "A.T @ A + Cholesky", "torch gels", "numpy lstsq", "scipy lstsq", "scikit-learn")
SKETCHES = ("srht", "sjlt", "countsketch")


def made_matrix(rows: int, columns: int, condition: float) -> Any:
    """Normal rows times a matrix of that condition, made in blocks."""
    import numpy as np

    random = np.random.default_rng(rows + columns)
    left, right = (np.linalg.qr(random.standard_normal((columns, columns)))[0] for _ in range(2))
    factor = (left * np.geomspace(1, 1 / condition, columns)) @ right
    matrix = np.empty((rows, columns))
    for start in range(0, rows, 4096):
        block = matrix[start : start + 4096]
        np.matmul(random.standard_normal(block.shape), factor, out=block)
    return matrix


def solvers_of(matrix: Any, right: Any, names: list[str]) -> dict[str, Callable[[], Any]]:
    import numpy as np
    from scipy.linalg import cho_factor, cho_solve, lstsq

    from slipstick import sketch

    calls: dict[str, Callable[[], Any]] = {
        "slipstick": lambda: sketch.lstsq(matrix, right, threads=1).x,
        "A.T @ A + Cholesky": lambda: cho_solve(cho_factor(matrix.T @ matrix), matrix.T @ right),
        "numpy lstsq": lambda: np.linalg.lstsq(matrix, right, rcond=None)[0],
        "scipy lstsq": lambda: lstsq(matrix, right, lapack_driver="gelsy", check_finite=False)[0],  # the fastest of its drivers
    }
    if "scikit-learn" in names and importlib.util.find_spec("sklearn"):
        from sklearn.linear_model import LinearRegression

        calls["scikit-learn"] = lambda: LinearRegression(fit_intercept=False).fit(matrix, right).coef_
    if "torch gels" in names and importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        tensors = torch.from_numpy(matrix), torch.from_numpy(right)[:, None]
        calls["torch gels"] = lambda: torch.linalg.lstsq(*tensors, driver="gels").solution[:, 0].numpy()
    return {name: call for name, call in calls.items() if name in names}


def backward_error(matrix: Any, right: Any, x: Any, spectrum: tuple[Any, Any]) -> float:
    """The Karlson-Walden estimate relative to |A|_F, with the singular values and vectors of A."""
    import numpy as np

    values, rows_of_v = spectrum
    rest = right - matrix @ x
    length = np.hypot(np.linalg.norm(right) / np.linalg.norm(values), np.linalg.norm(x))
    roots = np.hypot(values, np.linalg.norm(rest) / length)
    return float(np.linalg.norm(rows_of_v @ (matrix.T @ rest) / roots) / length / np.linalg.norm(values))


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from slipstick import sketch
    from slipstick.sketch import _dense
    from slipstick.sketch._problem import Problem

    if "call" in task:
        return run_stream(task)
    rows, columns = task["rows"], task["columns"]
    matrix = made_matrix(rows, columns, task["condition"])
    right = matrix @ np.ones(columns) + np.linalg.norm(matrix[:1000]) / np.sqrt(1000) * np.random.default_rng(1).standard_normal(rows)
    if task.get("memory"):
        before = harness.peak_memory_bytes()
        sketch.lstsq(matrix, right, threads=1)
        return {"extra_bytes": harness.peak_memory_bytes() - before}
    vector = np.ones(columns)
    calls: dict[str, Callable[[], Any]] = {"A @ v": lambda: matrix @ vector, "A.T @ A": lambda: matrix.T @ matrix}
    for kind in task["sketches"]:
        calls[f"sketch {kind}"] = lambda kind=kind: sketch.sketch(matrix, kind=kind, rows=4 * columns, threads=1)
    calls |= solvers_of(matrix, right, task["solvers"])
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    solutions: dict[str, Any] = {}
    for _ in range(task["runs"]):
        for name, call in calls.items():
            clock = harness.Clock()
            try:
                with clock:
                    solutions[name] = call()
            except np.linalg.LinAlgError:
                solutions[name] = None  # Cholesky of what is not positive definite
            samples[name].append((clock.cpu_seconds, clock.wall_seconds))
    problem = Problem("benchmark", matrix, right[:, None])
    factor = _dense.triangular_factor(problem.blocks(8 * columns), columns + 1)[:columns, :columns]
    spectrum = np.linalg.svd(factor)[1:]
    errors = {
        name: None if solutions[name] is None else backward_error(matrix, right, solutions[name], spectrum)
        for name in task["solvers"]
        if name in calls
    }
    return {"samples": samples, "errors": errors, "method": sketch.lstsq(matrix, right, threads=1).method}


STREAM_COLUMNS = 100
READ_BYTES, READS_IN_FLIGHT = 1 << 24, 2  # 4 MiB, or one at a time, is slower on the disks that were tried


def make_files(folder: pathlib.Path, rows: int) -> None:
    """X.npy and y.npy, float64, written in blocks."""
    import numpy as np

    random, block = np.random.default_rng(0), np.empty((8192, STREAM_COLUMNS + 1))
    head = {"descr": "<f8", "fortran_order": False}
    with open(folder / "X.npy", "wb") as of_x, open(folder / "y.npy", "wb") as of_y:
        np.lib.format.write_array_header_1_0(of_x, {**head, "shape": (rows, STREAM_COLUMNS)})
        np.lib.format.write_array_header_1_0(of_y, {**head, "shape": (rows,)})
        for start in range(0, rows, len(block)):
            part = random.standard_normal(out=block)[: rows - start]
            of_x.write(np.ascontiguousarray(part[:, :-1]))
            of_y.write(part.sum(axis=1))
        for file in (of_x, of_y):
            file.flush()
            os.fsync(file.fileno())  # pages that are not written yet would not be forgotten


def open_direct(path: pathlib.Path) -> int:
    """A descriptor that reads past the system's cache, where there is such a thing."""
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
    except OSError:  # a file system that has it not
        return os.open(path, os.O_RDONLY)


def read_file(path: pathlib.Path) -> None:
    """Reads the file into a few buffers, with several requests in flight."""
    size, descriptor = path.stat().st_size, open_direct(path)

    def read(first: int) -> int:
        buffer, count = mmap.mmap(-1, READ_BYTES), 0  # begins at a page, as O_DIRECT asks for
        for at in range(first * READ_BYTES, size, READS_IN_FLIGHT * READ_BYTES):
            count += os.preadv(descriptor, [buffer], at)
        return count

    try:
        with concurrent.futures.ThreadPoolExecutor(READS_IN_FLIGHT) as pool:
            count = sum(pool.map(read, range(READS_IN_FLIGHT)))
    finally:
        os.close(descriptor)
    assert count == size, (count, size)


def run_stream(task: dict[str, Any]) -> dict[str, Any]:
    from slipstick import sketch

    paths = [pathlib.Path(task["folder"], name) for name in ("X.npy", "y.npy")]
    if hasattr(os, "posix_fadvise"):
        for path in paths:
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    state = sketch.SketchedLeastSquares(STREAM_COLUMNS, threads=task["threads"])
    before, clock, answer = harness.peak_memory_bytes(), harness.Clock(), {}
    with clock:
        if task["call"] == "read":
            for path in paths:
                read_file(path)
        else:
            for X, y in sketch.NpyChunks(*paths):  # noqa: N806
                state.partial_fit(X, y)
    if task["call"] == "fit":
        answer = {"error": float(abs(state.solve().x - 1).max())}  # y is the sum of a row, and noise
    return {**answer, "seconds": (clock.cpu_seconds, clock.wall_seconds), "extra_bytes": harness.peak_memory_bytes() - before}


def stream(gigabytes: float, runs: int, folder: str | None) -> dict[str, Any]:
    """Prints the table and returns the record."""
    rows, fit, threads = int(gigabytes * 1e9) // (8 * STREAM_COLUMNS), {}, len(os.sched_getaffinity(0))
    samples: dict[str, list[tuple[float, float]]] = {"read": [], "fit": []}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the files are removed then, too
    with tempfile.TemporaryDirectory(dir=folder) as place:
        make_files(pathlib.Path(place), rows)
        for run in range(runs):
            # In turns: the host of a virtual disk may remember what was read before.
            for call in ("read", "fit") if run % 2 == 0 else ("fit", "read"):
                answer = harness.measure_in_child(__file__, {"call": call, "folder": place, "threads": threads})
                samples[call].append(tuple(answer["seconds"]))
                fit = answer if call == "fit" else fit
    assert fit["error"] < 0.05, fit
    size = 8 * rows * (STREAM_COLUMNS + 1)
    walls = {call: statistics.median(wall for _, wall in pairs) for call, pairs in samples.items()}
    shares = sorted(read / fit for (_, read), (_, fit) in zip(samples["read"], samples["fit"], strict=True))
    table = [
        [name, harness.significant(walls[call]), harness.significant(size / walls[call] / 1e9)]
        for call, name in (("read", "read with O_DIRECT"), ("fit", f"SketchedLeastSquares.partial_fit, threads: {threads}"))
    ]
    print(harness.text_table([f"{size / 1e9:.1f} GB, {rows} x {STREAM_COLUMNS}", "wall s", "GB/s"], table))
    can_forget = hasattr(os, "posix_fadvise")
    forgotten = "were forgotten before each run" if can_forget else "may have been in memory: this system cannot forget them"
    print(f"share of the read speed: {', '.join(f'{share:.0%}' for share in shares)}; the file's pages {forgotten}")
    print(f"memory beside the state: {fit['extra_bytes'] / 1e6:.0f} MB, {fit['extra_bytes'] / size:.2%} of the file")
    return {"bytes": size, "samples": samples, "extra_bytes": fit["extra_bytes"], "largest_error": fit["error"]}


def case_rows(case: dict[str, Any], answer: dict[str, Any]) -> list[list[str]]:
    samples = {name: harness.Samples([c for c, _ in pairs], [w for _, w in pairs]) for name, pairs in answer["samples"].items()}
    own, read = samples["slipstick"].median, samples["A @ v"].median
    rows = []
    for name, each in samples.items():
        error = answer["errors"].get(name)
        solver = name in SOLVERS
        label = f"{name} ({answer['method']})" if name == "slipstick" else name
        rows.append(
            [
                f"{case['rows']} x {case['columns']}, {case['condition']:.0e}",
                label,
                harness.significant(each.median * 1e3),
                harness.significant(each.median / read),
                harness.significant(each.median / own) if solver else "",
                "" if not solver else "failed" if error is None else f"{error:.1e}",
            ]
        )
    return rows


HEAD = ["rows x columns, condition", "call", "CPU ms", "reads of A", "times slipstick", "backward error"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, help=f"rows x columns, comma-separated (default: {SIZES})")
    parser.add_argument("--conditions", default=CONDITIONS, help=f"condition numbers (default: {CONDITIONS})")
    parser.add_argument("--solvers", default=",".join(SOLVERS), help="some of: " + ", ".join(SOLVERS))
    parser.add_argument("--sketches", default=",".join(SKETCHES), help="kinds of sketch, or none")
    parser.add_argument("--runs", type=int, default=3, help="samples of each call (default: 3)")
    parser.add_argument("--stream", type=float, metavar="GB", help="instead: stream a file of so many gigabytes")
    parser.add_argument("--folder", help="where that file is made (default: that of temporary files)")
    parser.add_argument("--no-memory", action="store_true", help="leave out the measurement of extra memory")
    parser.add_argument("--markdown", action="store_true", help="a table for a README")
    parser.add_argument("--json", metavar="OUT", help="also write every sample, the machine and the versions there")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error(f"--runs is {arguments.runs}; expected 1 or more")
    unknown = set(arguments.solvers.split(",")) - set(SOLVERS)
    if unknown or "slipstick" not in arguments.solvers.split(","):
        parser.error(f"--solvers is {arguments.solvers}; expected slipstick and some of {', '.join(SOLVERS[1:])}")
    return arguments


def main() -> None:
    harness.serve_child_task(run_task)
    arguments = parse_arguments()
    warnings = harness.load_warnings()
    if arguments.stream is not None:
        record = stream(arguments.stream, arguments.runs, arguments.folder)
        return report(arguments, warnings, [record])
    table: list[list[str]] = []
    record, cases, memory = [], {}, []
    sketches = [] if arguments.sketches == "none" else arguments.sketches.split(",")
    for size in arguments.sizes.split(","):
        rows, columns = (int(number) for number in size.split("x"))
        for condition in map(float, arguments.conditions.split(",")):
            case = {"rows": rows, "columns": columns, "condition": condition}
            task = {**case, "runs": arguments.runs, "solvers": arguments.solvers.split(","), "sketches": sketches}
            answer = harness.measure_in_child(__file__, task)
            table += case_rows(case, answer)
            cases |= {
                f"{name} on {size}, {condition:.0e}": harness.Samples(*map(list, zip(*pairs, strict=True)))
                for name, pairs in answer["samples"].items()
            }
            if not arguments.no_memory:
                extra = harness.measure_in_child(__file__, {**case, "memory": True})["extra_bytes"]
                memory.append(f"{size}, {condition:.0e}: {extra / (8 * rows * columns):.1%}")
            record.append({**task, **answer})
    warnings += harness.sample_warnings(cases)
    print((harness.markdown_table if arguments.markdown else harness.text_table)(HEAD, table))
    print()
    if memory:
        print("memory that slipstick took beside A, of A: " + "; ".join(memory))
    print(f"Float64, one thread, medians of {arguments.runs} interleaved samples; sketches have 4 d rows.")
    report(arguments, warnings, record)


def report(arguments: argparse.Namespace, warnings: list[str], record: list[Any]) -> None:
    """Prints the machine and the warnings, and writes what --json asks for."""
    machine = harness.machine()
    versions = harness.package_versions(["slipstick", "numpy", "scipy", "scikit-learn", "torch"])
    print(
        f"{machine['processor']}, {machine['usable_processors']} processors, {machine['system']}; Python {machine['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; commit {harness.commit()[:12] or 'unknown'}"
    )
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.json:
        harness.write_json(
            arguments.json,
            {
                "command": " ".join(["python", *sys.argv]),
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "commit": harness.commit(),
                "machine": machine,
                "versions": versions,
                "openblas": {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS")},
                "warnings": warnings,
                "cases": json.loads(json.dumps(record)),
            },
        )


if __name__ == "__main__":
    main()
