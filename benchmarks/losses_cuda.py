"""Time, memory and error of a linear head's cross-entropy on a CUDA device, against torch's, compiled and not.

python benchmarks/losses_cuda.py [--shape N,D,V]... [--runs N] [--json FILE] [--markdown]

Needs torch with CUDA and slipstick._cuda. The bfloat16 of all is the same; torch's logits are rounded to it and then taken to float32, as models do.
Before it is timed, a case shows its loss and the error of its gradients against those of the same numbers in float32. Cases go round in turn; memory
is what a case needs at its height beyond its inputs. The last lines time the parts of one tile: torch's product, and our two kernels.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Callable
from typing import Any

import cuda_device
import harness

from slipstick import losses

SHAPES = ("8192,2304,256000", "4096,4096,128256")
MOST_TIME, MOST_MEMORY, LEAST_RATE, MOST_ERROR = 0.95, 0.1, 0.6, 2e-3  # the targets: of torch.compile's, of the product's rate, relative
MIB = 1 << 20
CHUNK_ROWS = 1024


def inputs(rows: int, width: int, vocabulary: int) -> tuple[Any, Any, Any]:
    """Logits as of a trained model: the target of two rows in three stands out."""
    import torch

    generator = torch.Generator("cuda").manual_seed(0)
    weight = torch.randn(vocabulary, width, device="cuda", generator=generator) / width**0.5
    hidden = torch.randn(rows, width, device="cuda", generator=generator)
    targets = torch.randint(0, vocabulary, (rows,), device="cuda", generator=generator)
    stands_out = torch.rand(rows, 1, device="cuda", generator=generator) < 2 / 3
    hidden += torch.where(stands_out, 14.0, 0.0) * weight[targets]
    return hidden.bfloat16(), weight.bfloat16(), targets


def exact(hidden: Any, weight: Any, targets: Any) -> tuple[float, Any, Any]:
    """Loss and gradients of the same numbers in float32, by chunks of rows."""
    import torch

    rows = hidden.shape[0]
    w = weight.float()
    by_hidden, by_weight, loss = torch.empty_like(hidden, dtype=torch.float32), torch.zeros_like(w), 0.0
    for first in range(0, rows, CHUNK_ROWS):
        h, y = hidden[first : first + CHUNK_ROWS].float(), targets[first : first + CHUNK_ROWS, None]
        z = h @ w.T
        lse = z.logsumexp(1, keepdim=True)
        loss += float((lse - z.gather(1, y)).double().sum())
        dz = z.sub_(lse).exp_()
        dz.scatter_add_(1, y, torch.full_like(lse, -1.0))
        by_hidden[first : first + CHUNK_ROWS] = dz @ w / rows
        by_weight.addmm_(dz.T, h, alpha=1 / rows)
        del z, dz
    return loss / rows, by_hidden, by_weight


def cases(hidden: Any, weight: Any, targets: Any) -> dict[str, tuple[Callable[[], Any], bool]]:
    """Of each name: the call, and whether it makes gradients."""
    import torch

    cross_entropy = torch.nn.functional.cross_entropy

    def of_torch(h: Any, w: Any) -> Any:
        return cross_entropy((h @ w.T).float(), targets)

    compiled = torch.compile(of_torch)

    def ours(workspace: int) -> Callable[[Any, Any], Any]:
        return lambda h, w: losses.linear_cross_entropy(h, w, targets, workspace=workspace)

    def filtered(h: Any, w: Any) -> Any:
        return losses.linear_cross_entropy(h, w, targets, filter_eps="auto")

    teacher_hidden, teacher = hidden.flip(0), weight.flip(1)

    def apart(h: Any, w: Any) -> Any:
        return losses.two_head_statistics(h, w, teacher_hidden, teacher, want="forward_kl").forward_kl.mean()

    def apart_by_torch(h: Any, w: Any) -> Any:
        log_p, log_q = ((x @ y.T).float().log_softmax(1) for x, y in ((h, w), (teacher_hidden, teacher)))
        return torch.nn.functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)

    compiled_apart = torch.compile(apart_by_torch)

    def trained(loss: Callable[[Any, Any], Any]) -> Callable[[], Any]:
        def step() -> Any:
            h, w = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
            value = loss(h, w)
            value.backward()
            return value.detach(), h.grad, w.grad

        return step

    def forward(loss: Callable[[Any, Any], Any]) -> Callable[[], Any]:
        def step() -> Any:
            with torch.no_grad():
                return (loss(hidden, weight),)

        return step

    return {
        **{f"slipstick, {size} MiB": (trained(ours(size * MIB)), True) for size in (64, 256, 1024)},
        "torch.compile": (trained(compiled), True),
        "torch": (trained(of_torch), True),
        **{f"forward: slipstick, {size} MiB": (forward(ours(size * MIB)), False) for size in (64, 256, 1024)},
        "forward: torch.compile": (forward(compiled), False),
        "filtered: slipstick": (trained(filtered), False),
        "KL of a teacher: slipstick": (trained(apart), False),
        "KL of a teacher: torch.compile": (trained(compiled_apart), False),
    }


def tried(case: Callable[[], Any]) -> tuple[Any, str, int]:
    """What the case gave, or why it gave nothing, and its bytes."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        found = case()
        torch.cuda.synchronize()
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error).splitlines()[0][:120]}", 0
    return found, "", torch.cuda.max_memory_allocated() - before


def parts(hidden: Any, weight: Any) -> dict[str, tuple[Callable[[], Any], int, int]]:
    """Of one tile of 256 MiB: the call, its floating-point operations, and the bytes it must move."""
    import torch

    from slipstick.losses import _cuda, _tiles

    rows, width = hidden.shape
    high, wide = _tiles.tile_shape(rows, weight.shape[0], 6, 256 * MIB)
    head = _tiles.TiledHead(hidden, weight, None, None, None, "", 0.0, 1.0, -100, 0)
    some, classes = hidden[:high], weight[:wide]
    logits = _tiles.multiply(some, classes.T)
    tile = _tiles.Tile(head, slice(0, high), slice(0, wide), logits)
    sums = torch.empty(6, high, dtype=torch.float64, device="cuda")
    argmax = torch.empty(high, dtype=torch.int64, device="cuda")
    dz = torch.empty(high, wide, dtype=torch.bfloat16, device="cuda")
    ones = torch.ones(high, dtype=torch.float64, device="cuda")
    of = _tiles.Coefficients(40 * ones, ones, None, None, None, None, None)
    kernels, count, flops = _cuda.CudaKernels(), high * wide, 2 * high * wide * width
    by_weight = torch.empty(wide, width, dtype=torch.bfloat16, device="cuda")
    values, indices = (torch.empty(high, 256, dtype=kind, device="cuda") for kind in (torch.float64, torch.int64))
    dropped = torch.zeros(high, dtype=torch.float64, device="cuda")
    few = values.new_empty(high, 5), indices.new_empty(high, 5)
    return {
        "product to float32": (lambda: _tiles.multiply(some, classes.T), flops, 0),
        "product to bfloat16": (lambda: some @ classes.T, flops, 0),
        "gradient by hidden": (lambda: _tiles.multiply(dz, classes), flops, 0),
        "gradient by weight": (lambda: torch.mm(dz.T, some, out=by_weight), flops, 0),
        "statistics, lse alone": (lambda: kernels.add_statistics(tile, True, False, sums, argmax), 0, 4 * count),
        "statistics, all": (lambda: kernels.add_statistics(tile, True, True, sums, argmax), 0, 4 * count),
        "the 5 largest": (lambda: kernels.add_tops(tile, True, *few), 0, 4 * count),
        "the 256 largest": (lambda: kernels.add_tops(tile, True, values, indices), 0, 4 * count),
        "torch's 5 largest": (lambda: logits.topk(5), 0, 4 * count),
        "gradient by logits, filtered": (lambda: kernels.form_gradient(tile, of, 1e-4, dropped, dz), 0, 6 * count),
        "gradient by logits": (lambda: kernels.form_gradient(tile, of, 0.0, None, dz), 0, 6 * count),
        "copy": (lambda: dz.copy_(logits), 0, 6 * count),
    }


def measure(shape: tuple[int, int, int], runs: int) -> dict[str, Any]:
    import torch

    hidden, weight, targets = inputs(*shape)
    flops = 2 * shape[0] * shape[1] * shape[2]
    loss, by_hidden, by_weight = exact(hidden, weight, targets)
    by_hidden, by_weight = by_hidden.cpu(), by_weight.cpu()
    rows: dict[str, dict[str, Any]] = {}
    runnable = {}
    for name, (case, with_gradients) in cases(hidden, weight, targets).items():
        tried(case)  # compiles
        found, why, size = tried(case)
        rows[name] = {"bytes": size, "failed": why}
        if found is None:
            continue
        rows[name]["loss_error"] = abs(float(found[0]) - loss) / loss
        if with_gradients:
            errors = [
                float((got.cpu().float() - want).norm() / want.norm()) for got, want in zip(found[1:], (by_hidden, by_weight), strict=True)
            ]
            rows[name]["gradient_errors"] = errors
            if "slipstick" in name:
                again = case()
                rows[name]["same_bits"] = all(torch.equal(x, y) for x, y in zip(found, again, strict=True))
                del again
        del found
        runnable[name] = case
    by_hidden = by_weight = None
    for name, times in cuda_device.measured(runnable, runs).items():
        rows[name]["seconds"] = times
    of_tile = parts(hidden, weight)
    pieces = cuda_device.measured({name: case for name, (case, _, _) in of_tile.items()}, runs, 3)
    tile = {name: {"flops": of_tile[name][1], "bytes": of_tile[name][2], "seconds": times} for name, times in pieces.items()}
    return {"shape": shape, "flops": flops, "cases": rows, "tile": tile}


def print_shape(found: dict[str, Any], markdown: bool) -> None:
    rows, tile = found["cases"], found["tile"]
    of_compile = rows["torch.compile"]
    reference = statistics.median(of_compile["seconds"]) if of_compile.get("seconds") else float("nan")
    rate = tile["product to bfloat16"]["flops"] / statistics.median(tile["product to bfloat16"]["seconds"])
    table = []
    for name, row in rows.items():
        if row["failed"]:
            table.append([name, *[""] * 7, row["failed"]])
            continue
        seconds, trained = statistics.median(row["seconds"]), "gradient_errors" in row
        table.append(
            [
                name,
                f"{seconds * 1e3:.1f}",
                f"{seconds / reference:.2f}" if trained else "",
                f"{row['bytes'] / MIB:.0f}",
                f"{row['bytes'] / of_compile['bytes']:.3f}" if trained and of_compile["bytes"] else "",
                f"{found['flops'] * (3 if trained else 1) / seconds / rate:.2f}",
                f"{row['loss_error']:.1e}",
                f"{max(row['gradient_errors']):.1e}" if trained else "",
                {True: "yes", False: "NO"}.get(row.get("same_bits"), ""),
            ]
        )
    head = [
        "(N,D,V) = {},{},{}".format(*found["shape"]),
        "ms",
        "of compile",
        "MiB",
        "of compile",
        "of the product's rate",
        "loss off",
        "gradients off",
        "same bits",
    ]
    make = harness.markdown_table if markdown else harness.text_table
    print(make(head, table))
    print(
        f"targets: time {MOST_TIME}, memory {MOST_MEMORY}, forward's rate {LEAST_RATE}, gradients {MOST_ERROR}; product {rate / 1e12:.0f} TFLOP/s\n"
    )
    lines = []
    for name, row in tile.items():
        seconds = statistics.median(row["seconds"])
        speed = f"{row['flops'] / seconds / 1e12:.0f} TFLOP/s" if row["flops"] else f"{row['bytes'] / seconds / 1e9:.0f} GB/s"
        lines.append([name, f"{seconds * 1e3:.3f}", speed])
    print(make(["a tile of 256 MiB", "ms", "speed"], lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", metavar="N,D,V", help=f"rows, width, vocabulary (default: {' and '.join(SHAPES)})")
    parser.add_argument("--runs", type=int, default=7, help="samples of each case (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write samples and device there")
    parser.add_argument("--markdown", action="store_true", help="print tables for README.md")
    arguments = parser.parse_args()
    cuda_device.require("losses_cuda")
    record = cuda_device.report()
    record["shapes"] = []
    for text in arguments.shape or SHAPES:
        rows, width, vocabulary = map(int, text.split(","))
        found = measure((rows, width, vocabulary), arguments.runs)
        print_shape(found, arguments.markdown)
        record["shapes"].append(found)
        if arguments.json:  # what is there if the time runs out
            harness.write_json(arguments.json, record)
    print(cuda_device.footer(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
