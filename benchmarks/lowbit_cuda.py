"""Speed of the lowbit room on a CUDA device, in shares of a copy on the same device and in ratios to torch's own casts.

python benchmarks/lowbit_cuda.py [--elements N] [--size N] [--runs N] [--json FILE] [--markdown]

Needs torch with CUDA and slipstick._cuda. Cases go round in turn, so that each meets the same clock of the device; a sample is the time that the
device's own events give to a few calls, and figures are medians. Before anything is timed, formats and products are held to the CPU's bits: what differs
is named, first and last, and the status is 1.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
from collections.abc import Callable
from typing import Any

import cuda_device

from slipstick import lowbit

CALLS = 5  # a sample: long enough for the events
PROMISED = 0.85  # of the copy's bandwidth


def cases(elements: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Of each name: the call, and the bytes that it must move."""
    import torch

    x = torch.randn(elements, device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    half, out = x.to(torch.bfloat16), torch.empty_like(x)
    codes, small = lowbit.encode(x, "e4m3fn"), lowbit.encode(x, "e2m1")
    packed, fp8 = lowbit.pack(small, 4), x.to(torch.float8_e4m3fn)
    n = elements
    quantize = {
        f"quantize {name}": (lambda name=name: lowbit.quantize(x, name), 8 * n)
        for name in ("e4m3fn", "e5m2", "e2m1", "bf16", "fp16", "int8", "nf4", "posit16")
    }
    modes = {f"quantize e4m3fn {mode}": (lambda mode=mode: lowbit.quantize(x, "e4m3fn", rounding=mode), 8 * n) for mode in ("up", "to_odd")}
    stochastic = {
        f"stochastic e4m3fn, {bits} bits": (
            lambda bits=bits: lowbit.quantize(x, "e4m3fn", rounding="stochastic", random_bits=bits),
            8 * n,
        )
        for bits in (32, 16, 8)
    }
    blocks = {name: (lambda name=name: lowbit.quantize(x, name), 8 * n) for name in ("mxfp8", "mxfp4")}
    return {
        "torch copy_": (lambda: out.copy_(x), 8 * n),
        **quantize,
        "quantize e4m3fn of bfloat16": (lambda: lowbit.quantize(half, "e4m3fn"), 4 * n),
        **modes,
        **stochastic,
        **blocks,
        "nvfp4": (lambda: lowbit.quantize(x, "nvfp4"), 12 * n),  # its tensor's scale is a read of its own
        "mxfp4 along the first axis": (lambda: lowbit.quantize(x.view(-1, 1024), lowbit.format("mxfp4").replace(axis=0)), 12 * n),
        "encode e4m3fn": (lambda: lowbit.encode(x, "e4m3fn"), 5 * n),
        "encode mxfp4": (lambda: lowbit.encode(x, "mxfp4"), 5 * n + n // 32),
        "decode e4m3fn": (lambda: lowbit.decode(codes, "e4m3fn"), 5 * n),
        "statistics e4m3fn": (lambda: lowbit.statistics(x, "e4m3fn"), 4 * n),  # the host waits for each
        "statistics e4m3fn of 2^20": (lambda: lowbit.statistics(x[: 1 << 20], "e4m3fn"), 4 * min(n, 1 << 20)),
        "statistics e4m3fn stochastic": (lambda: lowbit.statistics(x, "e4m3fn", rounding="stochastic"), 4 * n),
        "pack 4 bits": (lambda: lowbit.pack(small, 4), n + n // 2),
        "unpack 4 bits": (lambda: lowbit.unpack(packed, 4, n), n + n // 2),
        "torch to float8_e4m3fn": (lambda: x.to(torch.float8_e4m3fn), 5 * n),
        "torch from float8_e4m3fn": (lambda: fp8.to(torch.float32), 5 * n),
    }


def product_cases(size: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """Of each name: the call, and its floating-point operations."""
    import torch

    a, b = (torch.randn(size, size, device="cuda", generator=torch.Generator("cuda").manual_seed(seed)) for seed in (0, 1))
    every = {f"matmul fp16 every {k}": lambda k=k: lowbit.matmul(a, b, round_every=k) for k in (1, 32)}
    cases: dict[str, Callable[[], Any]] = {
        "torch matmul float32": lambda: a @ b,
        "matmul float32": lambda: lowbit.matmul(a, b, accumulate=None),
        **every,
        "matmul bf16 every 1": lambda: lowbit.matmul(a, b, accumulate="bf16"),
    }
    return {name: (case, 2 * size**3) for name, case in cases.items()}


def differences() -> list[str]:
    """What differs from the CPU, or fails."""
    import torch

    x = torch.randn(100_003, generator=torch.Generator().manual_seed(0))
    a, b = (torch.randn(65, 300, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))

    def figures(found: lowbit.Statistics) -> Any:
        return torch.tensor([found.noise, found.signal, *found.exponents.tolist()], dtype=torch.float64)

    checks: dict[str, Callable[[Any], Any]] = {
        f"quantize {name} {options}": (lambda on, name=name, options=options: lowbit.quantize(on(x), name, **options))
        for name in ("e4m3fn", "e5m2", "e2m1", "bf16", "fp16", "int8", "nf4", "posit16", "mxfp8", "mxfp4", "nvfp4")
        for options in ({}, {"rounding": "up"}, {"rounding": "stochastic", "random_bits": 16})
    }
    checks["quantize e4m3fn of bfloat16"] = lambda on: lowbit.quantize(on(x.bfloat16()), "e4m3fn")
    checks["statistics e4m3fn"] = lambda on: figures(lowbit.statistics(on(x), "e4m3fn"))
    checks["matmul fp16"] = lambda on: lowbit.matmul(on(a), on(b).T)
    found = []
    for name, check in checks.items():
        try:
            if not torch.equal(check(lambda part: part.cuda()).cpu(), check(lambda part: part)):
                found.append(f"{name} differs from the CPU")
        except Exception as error:
            found.append(f"{name} fails: {cuda_device.brief(error)}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=1 << 27, help="of float32 (default: %(default)s); far more than any cache holds")
    parser.add_argument("--size", type=int, default=2048, help="of square matrices (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=11, help="samples of each case (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write samples and device there")
    parser.add_argument("--markdown", action="store_true", help="print a table for README.md")
    arguments = parser.parse_args()
    cuda_device.require("lowbit_cuda")
    faults = differences()
    for fault in faults:
        print(fault, file=sys.stderr)
    moves, products = cases(arguments.elements), product_cases(arguments.size)
    all_cases = {**moves, **products}
    samples = cuda_device.measured({name: case for name, (case, _) in all_cases.items()}, arguments.runs, CALLS)
    faults += [f"{name} fails" for name in all_cases if name not in samples]
    speed = {name: all_cases[name][1] / statistics.median(times) / 1e9 for name, times in samples.items()}
    record = cuda_device.report()
    if arguments.json:
        report = {**record, "elements": arguments.elements, "size": arguments.size, "faults": faults}
        rows = {name: {"bytes" if name in moves else "operations": all_cases[name][1], "seconds": times} for name, times in samples.items()}
        pathlib.Path(arguments.json).write_text(json.dumps({**report, "cases": rows}, indent=1), "utf-8")
    edge = "| " if arguments.markdown else ""
    print(f"{edge}what | GB/s moved | of the copy | promised | spread" + (" |\n| --- | ---: | ---: | ---: | ---: |" if edge else ""))
    reference, product = (speed.get(name, float("nan")) for name in ("torch copy_", "torch matmul float32"))
    for name in filter(speed.__contains__, moves):
        figure = speed[name]
        spread = (max(samples[name]) - min(samples[name])) / statistics.median(samples[name])
        promised = (
            f"{PROMISED}"
            if name.startswith(("quantize e", "quantize bf16", "quantize fp16", "mxfp", "decode")) and "axis" not in name
            else ""
        )
        print(f"{edge}{name} | {figure:.0f} | {figure / reference:.2f} | {promised} | {spread:.0%}" + (" |" if edge else ""))
    print(f"\n{edge}what | GFLOP/s | of torch matmul float32" + (" |\n| --- | ---: | ---: |" if edge else ""))
    for name in filter(speed.__contains__, products):
        print(f"{edge}{name} | {speed[name]:.0f} | {speed[name] / product:.2f}" + (" |" if edge else ""))
    print("\n" + cuda_device.footer(record))
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
