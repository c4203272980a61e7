"""What the benchmarks of CUDA kernels share: the device, samples by its own events, and a report's file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import harness


def require(name: str) -> None:
    """Ends the program where torch, slipstick._cuda or a device is missing."""
    from slipstick._extension import cuda_extension

    try:
        import torch
    except ImportError:
        raise SystemExit(f"{name}: torch is not installed") from None
    if cuda_extension() is None:
        raise SystemExit(f"{name}: slipstick._cuda is not installed; build with -Ccmake.define.SLIPSTICK_CUDA=ON")
    if not torch.cuda.is_available():
        raise SystemExit(f"{name}: torch finds no CUDA device")


def device() -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(0)
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    return {
        "card": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "driver": driver,
        "cuda_of_torch": torch.version.cuda,
    }


def measured(cases: dict[str, Callable[[], Any]], runs: int, calls: int = 1) -> dict[str, list[float]]:
    """Seconds of one call, `runs` samples of each case of `calls` calls; cases go round in turn, and the first round warms up. A case that fails is
    named on the standard error and has no samples.
    """
    import torch

    samples: dict[str, list[float]] = {name: [] for name in cases}
    for run in range(runs + 1):
        for name, case in cases.items():
            if name not in samples:
                continue
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            try:
                begin.record()
                for _ in range(calls):
                    case()
                end.record()
                end.synchronize()
            except Exception as error:
                print(f"{name} fails: {brief(error)}", file=sys.stderr)
                del samples[name]
                continue
            if run > 0:
                samples[name].append(begin.elapsed_time(end) / 1000 / calls)
    return samples


def brief(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"


def report() -> dict[str, Any]:
    """Device, machine, versions and commit, for a report to be filled."""
    versions = harness.package_versions(("slipstick", "torch", "numpy"))
    return {"device": device(), "machine": harness.machine(), "versions": versions, "commit": harness.commit()}


def footer(record: dict[str, Any]) -> str:
    on, versions = record["device"], record["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{on['card']}, driver {on['driver']}, CUDA {on['cuda_of_torch']}; {named}; commit {record['commit'][:12]}"
