"""Speed of the lowbit room against a copy and against the peers that are installed, in ratios of one run.

python benchmarks/lowbit.py [--elements N] [--size N] [--runs N] [--json FILE] [--markdown]

Needs torch. One thread. Each sample is a call in one process that goes round all cases, so that every case meets the same machine; figures are medians of CPU
time. Before it is timed, a case shows that it does its work: its result is compared with that of another way. Everyone writes to memory that is there
already where its interface allows that, because the first touch of new pages takes longer than some of the conversions.

Peers join in where they are installed: `pip install ml_dtypes gfloat pychop`, `pip install --no-deps torchao` (its CPU code needs nothing but torch; it warns of kernels for
GPUs that do not load), and microxcaling, which is on no index: the folder of a checkout of github.com/microsoft/microxcaling on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import harness
import numpy as np

import slipstick
from slipstick import lowbit

Case = Callable[[], Any]


def array_cases(elements: int) -> dict[str, tuple[Case, int]]:
    """Of each name: the call, and the float32 bytes that it takes in."""
    import torch

    torch.set_num_threads(1)
    tensor = torch.randn(elements, generator=torch.Generator().manual_seed(0))
    tensor_out = torch.empty_like(tensor)
    codes_of_torch = tensor.to(torch.float8_e4m3fn)
    torch_codes_out = torch.empty_like(codes_of_torch)
    x, y = tensor.numpy(), tensor_out.numpy()
    codes = lowbit.encode(x, "e4m3fn")
    codes_out = np.empty_like(codes)
    if not (codes == codes_of_torch.view(torch.uint8).numpy()).all():
        raise SystemExit("encode and torch differ: nothing is timed")
    if not torch.equal(codes_of_torch.float(), torch.from_numpy(lowbit.quantize(x, "e4m3fn"))):
        raise SystemExit("quantize and torch's round trip differ: nothing is timed")
    of_columns = lowbit.format("mxfp8").replace(axis=0)
    nearest = {
        f"quantize {name}": lambda name=name: lowbit.quantize(x, name, out=y)
        for name in ("e4m3fn", "e5m2", "e2m1", "e8m7", "e5m10", "e3m9")
    }
    cases: dict[str, Case] = {
        "torch copy_": lambda: tensor_out.copy_(tensor),
        **nearest,
        "quantize e4m3fn in place": lambda: lowbit.quantize(y, "e4m3fn", out=y),
        **{
            f"quantize e4m3fn {mode}": lambda mode=mode: lowbit.quantize(x, "e4m3fn", rounding=mode, out=y)
            for mode in ("up", "toward_zero", "nearest_away", "to_odd")
        },
        "quantize int8": lambda: lowbit.quantize(x, "int8", out=y),
        **{
            f"stochastic e4m3fn, {bits} bits": lambda bits=bits: lowbit.quantize(
                x, "e4m3fn", rounding="stochastic", random_bits=bits, out=y
            )
            for bits in (32, 16, 8)
        },
        "encode e4m3fn": lambda: lowbit.encode(x, "e4m3fn", out=codes_out),
        "decode e4m3fn": lambda: lowbit.decode(codes, "e4m3fn", out=y),
        "mxfp8": lambda: lowbit.quantize(x, "mxfp8", out=y),
        "mxfp4": lambda: lowbit.quantize(x, "mxfp4", out=y),
        "mxfp8 of columns": lambda: lowbit.quantize(x.reshape(-1, 1024), of_columns, out=y.reshape(-1, 1024)),
        "mxfp8 up": lambda: lowbit.quantize(x, "mxfp8", rounding="up", out=y),
        "nvfp4": lambda: lowbit.quantize(x, "nvfp4", out=y),
        "statistics e4m3fn": lambda: lowbit.statistics(x, "e4m3fn"),
        "torch to float8_e4m3fn": lambda: torch_codes_out.copy_(tensor),
        "torch from float8_e4m3fn": lambda: tensor_out.copy_(codes_of_torch),
        "torch e4m3fn round trip": lambda: tensor_out.copy_(torch_codes_out.copy_(tensor)),
    }
    try:
        import ml_dtypes

        cases["ml_dtypes e4m3fn round trip"] = lambda: x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    except ImportError:
        pass
    for name, (rounded, ours) in array_peers(x).items():
        if not np.array_equal(rounded(), ours()):
            raise SystemExit(f"{name} and quantize differ: nothing is timed")
        cases[name] = rounded
    rows = tensor.reshape(-1, 1024)
    peers = {**torchao_cases(rows), **microxcaling_cases(rows)}
    for name, fake_quantize in peers.items():
        if "encode" not in name and not torch.equal(
            fake_quantize().reshape(-1), lowbit.quantize(rows, name.rpartition(" ")[2]).reshape(-1)
        ):
            raise SystemExit(f"{name} and quantize differ: nothing is timed")
    return {name: (case, elements * 4) for name, case in {**cases, **peers}.items()}


def array_peers(x: Any) -> dict[str, tuple[Case, Case]]:
    """What rounds NumPy arrays to 8 bits, and the call of ours that gives the same."""
    peers: dict[str, tuple[Case, Case]] = {}
    try:
        from gfloat import formats, round_ndarray

        peers["gfloat e4m3fn"] = (lambda: round_ndarray(formats.format_info_ocp_e4m3, x), lambda: lowbit.quantize(x, "e4m3fn"))
    except ImportError:
        pass
    try:
        from pychop.np.lightchop import LightChop_

        chop = LightChop_(4, 3, 1, chunk_size=x.size)  # 1: to nearest, ties to even
        peers["pychop e4m3"] = (lambda: chop.quantize(x), lambda: lowbit.quantize(x, "e4m3", profile="pychop"))
    except ImportError:
        pass
    return peers


def torchao_cases(rows: Any) -> dict[str, Case]:
    import torch

    try:
        from torchao.prototype.mx_formats.mx_tensor import MXTensor, to_mx
    except ImportError:
        return {}
    return {
        "torchao encode mxfp8": lambda: to_mx(rows, torch.float8_e4m3fn, 32),
        "torchao encode mxfp4": lambda: to_mx(rows, torch.float4_e2m1fn_x2, 32),
        "torchao mxfp8": lambda: MXTensor.to_mx(rows, torch.float8_e4m3fn, 32).dequantize(torch.float32),
        "torchao mxfp4": lambda: MXTensor.to_mx(rows, torch.float4_e2m1fn_x2, 32).dequantize(torch.float32),
    }


def microxcaling_cases(rows: Any) -> dict[str, Case]:
    try:
        from mx.mx_ops import _quantize_mx
    except ImportError:
        return {}
    return {
        f"microxcaling {name}": lambda element=element: _quantize_mx(rows, 8, element, axes=[-1], block_size=32, round="even")
        for name, element in (("mxfp8", "fp8_e4m3"), ("mxfp4", "fp4"))
    }


def product_cases(size: int) -> dict[str, tuple[Case, int]]:
    """Of each name: the call, and its floating-point operations."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    aq, bq = (lowbit.quantize(matrix, "e4m3fn") for matrix in (a, b))
    cases: dict[str, Case] = {
        "matmul float32": lambda: lowbit.matmul(a, b, accumulate=None),
        "matmul fp16 every product, e4m3fn inputs": lambda: lowbit.matmul(aq, bq),
        "matmul fp16 every product": lambda: lowbit.matmul(a, b),
        "matmul bf16 every product, e4m3fn inputs": lambda: lowbit.matmul(aq, bq, accumulate="bf16"),
        "matmul fp16 every 32": lambda: lowbit.matmul(a, b, round_every=32),
    }
    return {name: (case, 2 * size**3) for name, case in cases.items()}


def measured(cases: dict[str, tuple[Case, int]], runs: int) -> dict[str, harness.Samples]:
    samples = {name: harness.Samples() for name in cases}
    for _ in range(runs):
        for name, (case, _) in cases.items():
            clock = harness.Clock()
            with clock:
                case()
            samples[name].add({"cpu_seconds": clock.cpu_seconds, "wall_seconds": clock.wall_seconds})
    return samples


# Each row of the table: what, against what, and the least ratio of speeds that the room promises itself.
TARGETS = [
    *((f"quantize {name}", "torch copy_", 0.90) for name in ("e4m3fn", "e5m2", "e2m1", "e8m7", "e5m10", "e3m9")),
    ("quantize e4m3fn", "torch e4m3fn round trip", 10.0),
    *(("quantize e4m3fn", peer, None) for peer in ("ml_dtypes e4m3fn round trip", "gfloat e4m3fn", "pychop e4m3")),
    ("quantize e4m3fn in place", "torch copy_", None),
    *((f"quantize e4m3fn {mode}", "torch copy_", None) for mode in ("up", "toward_zero", "nearest_away", "to_odd")),
    ("quantize int8", "torch copy_", None),
    ("encode e4m3fn", "torch to float8_e4m3fn", 1.8),
    ("decode e4m3fn", "torch from float8_e4m3fn", 15.0),
    ("mxfp8", "torch copy_", None),
    ("mxfp4", "torch copy_", None),
    *((name, "torch copy_", None) for name in ("mxfp8 of columns", "mxfp8 up", "nvfp4", "statistics e4m3fn")),
    *((name, f"{peer} {name}", target) for peer, target in (("torchao", 8.0), ("microxcaling", 60.0)) for name in ("mxfp8", "mxfp4")),
    *((name, f"torchao encode {name}", 8.0) for name in ("mxfp8", "mxfp4")),
    ("stochastic e4m3fn, 32 bits", "torch copy_", None),
    ("stochastic e4m3fn, 16 bits", "torch copy_", 0.45),
    ("stochastic e4m3fn, 8 bits", "torch copy_", None),
    ("matmul fp16 every product, e4m3fn inputs", "matmul float32", 0.30),
    ("matmul fp16 every product", "matmul float32", 0.30),
    ("matmul bf16 every product, e4m3fn inputs", "matmul float32", None),
    ("matmul fp16 every 32", "matmul float32", 0.80),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=16 << 20, help="of the float32 array; default 16 Mi, beyond every cache")
    parser.add_argument("--size", type=int, default=512, help="rows and columns of the matrices; default 512")
    parser.add_argument("--runs", type=int, default=7, help="samples of each case; default 7")
    parser.add_argument("--json", metavar="FILE", help="write all samples, the machine and the versions")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()

    slipstick.set_num_threads(1)
    warnings = harness.load_warnings()
    cases = {**array_cases(options.elements), **product_cases(options.size)}
    samples = measured(cases, options.runs)
    warnings += harness.sample_warnings(samples)
    rate = {name: work / samples[name].median / 1e9 for name, (_, work) in cases.items()}

    head = ["what", "GB/s or GFLOP/s", "against", "ratio", "promised"]
    rows = []
    for name, peer, target in TARGETS:
        if peer in rate:
            ratio = rate[name] / rate[peer]
            shown = harness.significant(ratio)
            rows.append([name, harness.significant(rate[name]), peer, shown, f"{target:g}" if target else ""])
    print(harness.markdown_table(head, rows) if options.markdown else harness.text_table(head, rows))
    machine, versions = (
        harness.machine(),
        harness.package_versions(("slipstick", "torch", "numpy", "ml_dtypes", "torchao", "gfloat", "pychop")),
    )
    level = slipstick.isa()
    print(
        f"\n{machine['processor']}, {machine['processors']} processors, level {level}, {machine['system']}; Python {machine['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; commit {harness.commit()[:12]}\nGB/s: 10^9 bytes of float32 per CPU second, one thread, median of {options.runs}."
    )
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stdout if options.markdown else sys.stderr)
    if options.json:
        record = {
            "machine": machine,
            "versions": versions,
            "level": level,
            "commit": harness.commit(),
            "samples": {name: {"work": work, "cpu_seconds": samples[name].cpu_seconds} for name, (_, work) in cases.items()},
        }
        harness.write_json(options.json, record)


if __name__ == "__main__":
    main()
