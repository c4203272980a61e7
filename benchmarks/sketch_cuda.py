"""Time and backward error of least squares on a CUDA device, against torch.linalg.lstsq there and the normal equations; and of single sketches.

python benchmarks/sketch_cuda.py [--shape ROWS,COLUMNS]... [--runs N] [--json FILE] [--markdown]

Needs torch with CUDA and slipstick._cuda. float64, row-major. Every solution is judged by the same estimate, that of Karlson and Walden with the singular
values of an R factor of A by torch. The last columns of the deficient case depend on the others. Cases go round in turn.
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

SHAPES = ("1000000,100", "1048576,256", "200000,500")
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
            found[name]["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
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
    x = torch.ones(columns, dtype=torch.float64, device="cuda")
    height = 4 * columns + 8
    got = [sketch.sketch(a, kind="sjlt", rows=height, nonzeros=4) for _ in range(2)]
    same = torch.equal(got[0], got[1])
    on_host = a.cpu().numpy()
    off = float((got[0].cpu() - torch.from_numpy(sketch.sketch(on_host, kind="sjlt", rows=height, nonzeros=4))).abs().max())
    of_host = torch.equal(sketch.sketch(a, rows=height).cpu(), torch.from_numpy(sketch.sketch(on_host, rows=height)))
    runnable = {
        "A x": lambda: a @ x,
        "A^T b": lambda: a.T @ b,
        "A^T (b - A x), |b - A x|^2": lambda: _cuda.fused_residual("benchmark", a, b[:, None], None, x[:, None]),
        "A^T A": lambda: a.T @ a,
        "sjlt, 4 nonzeros": lambda: sketch.sketch(a, kind="sjlt", rows=height, nonzeros=4),
        "sjlt, 8 nonzeros": lambda: sketch.sketch(a, kind="sjlt", rows=height, nonzeros=8),
        "srht": lambda: sketch.sketch(a, rows=height),
        "srht, 16 rows a column": lambda: sketch.sketch(a, rows=16 * columns),
        "countsketch": lambda: sketch.sketch(a, kind="countsketch", rows=height),
    }
    seconds = cuda_device.measured(runnable, runs)
    found = {"same_bits": same, "off_the_cpu": off, "srht_bits_of_the_cpu": of_host}
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
    record |= {"lstsq": [], "passes": []}
    table = []
    for text in arguments.shape or SHAPES:
        rows, columns = map(int, text.split(","))
        record["passes"].append(passes(rows, columns, arguments.runs))
        for kind in KINDS:
            found = measure(rows, columns, kind, arguments.runs)
            record["lstsq"].append(found)
            if arguments.json:  # what is there if the time runs out
                harness.write_json(arguments.json, record)
            of_torch = found["cases"]["torch lstsq"].get("seconds")
            for name, row in found["cases"].items():
                if row["failed"]:
                    table.append([f"{rows} x {columns}", kind, name, *[""] * 4, row["failed"]])
                    continue
                seconds = statistics.median(row["seconds"])
                speedup = f"{statistics.median(of_torch) / seconds:.1f}" if of_torch else ""
                note = (
                    f"{row['method']}, {'certified' if row['certified'] else 'not certified'}, rank {row['rank']}"
                    if "method" in row
                    else ""
                )
                cells = [f"{seconds * 1e3:.1f}", speedup, f"{row['backward_error']:.1e}", f"{row['norm_of_x']:.2e}", note]
                table.append([f"{rows} x {columns}", kind, name, *cells])
    print(make(["A", "kind", "solver", "ms", f"times torch's speed (target {LEAST_SPEEDUP})", "backward error", "norm of x", ""], table))
    lines = []
    for row in record["passes"]:
        size = 8 * row["rows"] * row["columns"]
        for name, times in row["seconds"].items():
            seconds = statistics.median(times)
            lines.append([f"{row['rows']} x {row['columns']}", name, f"{seconds * 1e3:.2f}", f"{size / seconds / 1e9:.0f}"])
    print("\n" + make(["A", "pass", "ms", "GB/s of A"], lines))
    print("\n" + cuda_device.footer(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
