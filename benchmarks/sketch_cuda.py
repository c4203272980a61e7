"""Time and backward error of least squares on a CUDA device, against torch.linalg.lstsq there and the normal equations; and of single sketches.

python benchmarks/sketch_cuda.py [--shape ROWS,COLUMNS]... [--runs N] [--json FILE] [--markdown]

Needs torch with CUDA and slipstick._cuda. float64, row-major. Every solution is judged by the same estimate, that of Karlson and Walden with the singular
values of an R factor of A by torch. The last columns of the deficient case depend on the others. Cases go round in turn. Sketches that are to have the
CPU's bits are held to them first; what differs or fails is named, first and last, and the status is 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import cuda_device
import harness

from slipstick import sketch

SHAPES = ("1000000,100", "1048576,256", "200000,500", "8000000,4")
FEW_COLUMNS = 8  # up to which single passes alone are measured
RIGHTS = 8
SOME_ROWS = 30_001  # that the CPU sketches too
OF_THE_CPU = ("srht", "gaussian", "gaussian_pooled")
KINDS = ("condition 1", "condition 1e6", "condition 1e10", "deficient")
LEAST_SPEEDUP = 5  # the target, of torch's lstsq


def problem(rows: int, columns: int, kind: str) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(0)
    a = torch.randn(rows, columns, dtype=torch.float64, device="cuda", generator=generator)
    condition = {"condition 1": 1.0, "deficient": 1.0}.get(kind) or float(kind.split()[1])
    v, _ = torch.linalg.qr(torch.randn(columns, columns, dtype=torch.float64, device="cuda", generator=generator))
    a = a @ (v * torch.logspace(0, 1, columns, base=1 / condition, dtype=torch.float64, device="cuda")) @ v.T
    if kind == "deficient":
        a[:, -3:] = a[:, :3] + a[:, 3:6]
    x = torch.randn(columns, dtype=torch.float64, device="cuda", generator=generator)
    rest = torch.randn(rows, dtype=torch.float64, device="cuda", generator=generator)
    return a, a @ x + 1e-3 * rest


def backward_error(a: Any, b: Any, x: Any) -> float:
    """The Karlson-Walden estimate, relative to |A|_F."""
    import torch

    _, values, rows_of_v = torch.linalg.svd(torch.linalg.qr(a, mode="r").R)
    rest = b - a @ x
    theta = values.norm() / b.norm()
    square = theta**2 / (1 + theta**2 * (x @ x))
    roots = torch.sqrt(values**2 + square * (rest @ rest))
    return float(torch.sqrt(square) * torch.norm(rows_of_v @ (a.T @ rest) / roots) / values.norm())


def normal_equations(a: Any, b: Any) -> Any:
    import torch

    return torch.cholesky_solve((a.T @ b)[:, None], torch.linalg.cholesky(a.T @ a))[:, 0]


def cases(a: Any, b: Any) -> dict[str, Callable[[], Any]]:
    import torch

    return {
        "slipstick": lambda: sketch.lstsq(a, b),
        "torch lstsq": lambda: torch.linalg.lstsq(a, b[:, None]).solution[:, 0],
        "normal equations": lambda: normal_equations(a, b),
    }


def timed(runnable: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """By the clock of the host, which lstsq waits on."""
    import torch

    samples: dict[str, list[float]] = {name: [] for name in runnable}
    for run in range(runs + 1):
        for name, case in runnable.items():
            torch.cuda.synchronize()
            begin = time.perf_counter()
            case()
            torch.cuda.synchronize()
            if run > 0:
                samples[name].append(time.perf_counter() - begin)
    return samples


def measure(rows: int, columns: int, kind: str, runs: int) -> dict[str, Any]:
    import warnings

    import torch

    a, b = problem(rows, columns, kind)
    found: dict[str, dict[str, Any]] = {}
    runnable = {}
    for name, case in cases(a, b).items():
        found[name] = {"failed": ""}
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = case()
            torch.cuda.synchronize()
        except Exception as error:
            found[name]["failed"] = cuda_device.brief(error)
            continue
        found[name]["bytes"] = torch.cuda.max_memory_allocated() - before
        if name == "slipstick":
            found[name] |= {"method": answer.method, "certified": answer.certified, "rank": answer.rank, "passes": answer.passes}
            answer = answer.x
        found[name] |= {"backward_error": backward_error(a, b, answer), "norm_of_x": float(answer.norm())}
        runnable[name] = case
    for name, times in timed(runnable, runs).items():
        found[name]["seconds"] = times
    return {"rows": rows, "columns": columns, "kind": kind, "cases": found}


def passes(rows: int, columns: int, runs: int) -> dict[str, Any]:
    """Single passes over A, in seconds."""
    import torch

    from slipstick.sketch import _cuda

    a, b = problem(rows, columns, "condition 1")
    x, several = (torch.ones(columns, k, dtype=torch.float64, device="cuda") for k in (1, RIGHTS))
    right = b[:, None].expand(rows, RIGHTS).contiguous()
    height = 4 * columns + 8
    got = [sketch.sketch(a, kind="sjlt", rows=height, nonzeros=4) for _ in range(2)]
    same = torch.equal(got[0], got[1])
    some = a[:SOME_ROWS].cpu().numpy()
    off = float(
        (sketch.sketch(a[:SOME_ROWS], kind="sjlt", rows=height).cpu() - torch.from_numpy(sketch.sketch(some, kind="sjlt", rows=height)))
        .abs()
        .max()
    )
    of_host = {
        kind: torch.equal(
            sketch.sketch(a[:SOME_ROWS], kind=kind, rows=height).cpu(), torch.from_numpy(sketch.sketch(some, kind=kind, rows=height))
        )
        for kind in OF_THE_CPU
    }
    runnable = {
        "A x": lambda: a @ x[:, 0],
        "A^T b": lambda: a.T @ b,
        "A^T (b - A x), |b - A x|^2": lambda: _cuda.fused_residual("benchmark", a, b[:, None], None, x),
        f"the same for {RIGHTS} of b": lambda: _cuda.fused_residual("benchmark", a, right, None, several),
        "A^T A": lambda: a.T @ a,
        "sjlt, 4 nonzeros": lambda: sketch.sketch(a, kind="sjlt", rows=height, nonzeros=4),
        "sjlt, 8 nonzeros": lambda: sketch.sketch(a, kind="sjlt", rows=height, nonzeros=8),
        "srht": lambda: sketch.sketch(a, rows=height),
        "srht, 16 rows a column": lambda: sketch.sketch(a, rows=16 * columns),
        "countsketch": lambda: sketch.sketch(a, kind="countsketch", rows=height),
        "gaussian_pooled": lambda: sketch.sketch(a, kind="gaussian_pooled", rows=height),
        "gaussian": lambda: sketch.sketch(a, kind="gaussian", rows=height),
    }
    seconds = cuda_device.measured(runnable, runs)
    found = {
        "same_bits": same,
        "off_the_cpu": off,
        "bits_of_the_cpu": of_host,
        "failed": [name for name in runnable if name not in seconds],
    }
    return {"rows": rows, "columns": columns, **found, "seconds": seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", metavar="ROWS,COLUMNS", help=f"of A (default: {', '.join(SHAPES)})")
    parser.add_argument("--runs", type=int, default=5, help="samples of each case (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write samples and device there")
    parser.add_argument("--markdown", action="store_true", help="print tables for README.md")
    arguments = parser.parse_args()
    cuda_device.require("sketch_cuda")
    make = harness.markdown_table if arguments.markdown else harness.text_table
    record = cuda_device.report()
    record |= {"lstsq": [], "passes": [], "faults": []}

    def note(fault: str) -> None:
        record["faults"].append(fault)
        print(fault, file=sys.stderr)

    def tried(name: str, into: str, measure_it: Callable[..., dict[str, Any]], *options: Any) -> None:
        """What there is is in the file if the time runs out, or if a later part fails."""
        try:
            record[into].append(measure_it(*options))
        except Exception as error:
            note(f"{name} fails: {cuda_device.brief(error)}")
        if arguments.json:
            harness.write_json(arguments.json, record)

    for text in arguments.shape or SHAPES:
        rows, columns = map(int, text.split(","))
        tried(f"passes over {text}", "passes", passes, rows, columns, arguments.runs)
        for kind in KINDS if columns > FEW_COLUMNS else ():
            tried(f"lstsq of {text}, {kind}", "lstsq", measure, rows, columns, kind, arguments.runs)
    for row in record["passes"]:
        for kind in (kind for kind, same in row["bits_of_the_cpu"].items() if not same):
            note(f"{kind} of {row['rows']} x {row['columns']} differs from the CPU")
        for name in row["failed"]:
            note(f"{name} of {row['rows']} x {row['columns']} fails")
        if not row["same_bits"]:
            note(f"sjlt of {row['rows']} x {row['columns']} differs from run to run")
    table = []
    for found in record["lstsq"]:
        of_torch = found["cases"]["torch lstsq"].get("seconds")
        for name, row in found["cases"].items():
            shape = f"{found['rows']} x {found['columns']}"
            if row["failed"]:
                table.append([shape, found["kind"], name, *[""] * 4, row["failed"]])
                continue
            seconds = statistics.median(row["seconds"])
            speedup = f"{statistics.median(of_torch) / seconds:.1f}" if of_torch else ""
            note_of_row = (
                f"{row['method']}, {'certified' if row['certified'] else 'not certified'}, rank {row['rank']}" if "method" in row else ""
            )
            cells = [f"{seconds * 1e3:.1f}", speedup, f"{row['backward_error']:.1e}", f"{row['norm_of_x']:.2e}", note_of_row]
            table.append([shape, found["kind"], name, *cells])
    print(make(["A", "kind", "solver", "ms", f"times torch's speed (target {LEAST_SPEEDUP})", "backward error", "norm of x", ""], table))
    lines = []
    for row in record["passes"]:
        size = 8 * row["rows"] * row["columns"]
        for name, times in row["seconds"].items():
            seconds = statistics.median(times)
            lines.append([f"{row['rows']} x {row['columns']}", name, f"{seconds * 1e3:.2f}", f"{size / seconds / 1e9:.0f}"])
    print("\n" + make(["A", "pass", "ms", "GB/s of A"], lines))
    print("\n" + cuda_device.footer(record))
    if arguments.json:
        harness.write_json(arguments.json, record)
    for fault in record["faults"]:
        print(fault, file=sys.stderr)
    return int(bool(record["faults"]))


if __name__ == "__main__":
    sys.exit(main())
