"""What does the loss of a linear head cost without its logits in memory, in time and in bytes?

Rivals are torch's eager cross-entropy over materialised logits (of 16-bit heads: rounded logits, upcast to float32) and torch's own
F.linear_cross_entropy where it has one, with its default options and with chunks of 256 rows, the fastest that were found. All run in one process a shape, in turns, on one thread; times are CPU time, best of the runs, and are
compared as ratios. Before a time counts, losses and gradients are compared with the eager ones in float32. Memory is the peak above what the
inputs hold, in a process of its own for each case. The share of the peak is 2 N D V over the time of a forward, against a loop of independent
multiply-adds measured in the same process.

    python benchmarks/losses.py                     all shapes
    python benchmarks/losses.py 1024,512,32768      one shape
    python benchmarks/losses.py --curve             a small language model on the manual in Python's own pydoc_data, with both losses, as a table
                                                    and, where there is matplotlib, as a picture (--png)
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import harness

SHAPES = ("1024,512,32768", "2048,768,50257")
DTYPES = "float32,bfloat16"
EAGER, OURS, FILTERED = "torch eager", "slipstick", "slipstick filtered"
LARGE = "slipstick, workspace of 128 MiB"  # still less than the chunked loss of torch takes
CHUNKED, CHUNKED_BEST = "torch linear_cross_entropy", "torch linear_cross_entropy, 256 rows a chunk"
FILTER_EPS = 2.0**-12
MOST_LOSS_ERROR, MOST_GRADIENT_ERROR = 1e-5, {"float32": 1e-5, "bfloat16": 2e-3}
FILTERED_GRADIENT_ERROR = 0.1  # what a filter of this size is expected to stay under; printed


def make_inputs(shape: str, dtype: str, trained: bool) -> tuple[Any, Any, Any]:
    """Random normal heads; `trained`: 7 rows of 10 point to their target, with p near 0.8."""
    import torch

    rows, width, vocabulary = map(int, shape.split(","))
    torch.manual_seed(0)
    hidden, weight = torch.randn(rows, width), torch.randn(vocabulary, width) / width**0.5
    targets = torch.randint(0, vocabulary, (rows,))
    if trained:
        toward = weight[targets]
        known = torch.rand(rows, 1) < 0.7
        hidden = torch.where(known, hidden + 12 * toward / toward.square().sum(1, keepdim=True), hidden)
    kind = getattr(torch, dtype)
    return hidden.to(kind).requires_grad_(), weight.to(kind).requires_grad_(), targets


def losses_of(hidden: Any, weight: Any, targets: Any) -> dict[str, Callable[[], Any]]:
    import torch

    from slipstick import losses

    functional = torch.nn.functional
    found: dict[str, Callable[[], Any]] = {
        EAGER: lambda: functional.cross_entropy((hidden @ weight.T).float(), targets),
        OURS: lambda: losses.linear_cross_entropy(hidden, weight, targets),
        LARGE: lambda: losses.linear_cross_entropy(hidden, weight, targets, workspace=128 << 20),
        FILTERED: lambda: losses.linear_cross_entropy(hidden, weight, targets, filter_eps=FILTER_EPS),
    }
    if hasattr(functional, "linear_cross_entropy") and hasattr(torch.nn, "LinearCrossEntropyOptions"):
        options, best = torch.nn.LinearCrossEntropyOptions(), torch.nn.LinearCrossEntropyOptions(chunking_method=None, batch_chunk_size=256)
        found[CHUNKED] = lambda: functional.linear_cross_entropy(hidden, weight, targets, options=options)
        found[CHUNKED_BEST] = lambda: functional.linear_cross_entropy(hidden, weight, targets, options=best)
    return found


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    hidden, weight, targets = make_inputs(task["shape"], task["dtype"], task["trained"])
    cases = losses_of(hidden, weight, targets)
    if "memory_of" in task:
        return {"extra_bytes": extra_memory(cases[task["memory_of"]], task["backward"], (hidden, weight))}
    verify(cases, hidden, weight, targets, task)
    samples: dict[str, list[float]] = {}
    for _ in range(task["runs"]):
        for name in [case for case in task["cases"] if case in cases]:
            for backward in (False, True):
                if name in (LARGE, FILTERED) and not backward:
                    continue
                if name in (CHUNKED, CHUNKED_BEST) and (not backward or samples.get(f"{name} backward")):
                    continue  # several seconds each: once
                samples.setdefault(f"{name} {'backward' if backward else 'forward'}", []).append(
                    one_run(cases[name], backward, (hidden, weight))
                )
    return {"seconds": samples, "peak_flops": peak_flops()}


def one_run(loss: Callable[[], Any], backward: bool, tensors: tuple[Any, Any]) -> float:
    import torch

    for tensor in tensors:
        tensor.grad = None
    begin = time.process_time()
    if backward:
        loss().backward()
    else:
        with torch.no_grad():
            loss()
    return time.process_time() - begin


def peak_flops() -> float:
    from slipstick._core import losses as core

    best = 0.0
    for _ in range(10):
        begin = time.process_time()
        flops = core.multiply_add_flops(2_000_000)
        best = max(best, flops / (time.process_time() - begin))
    return best


def verify(cases: dict[str, Callable[[], Any]], hidden: Any, weight: Any, targets: Any, task: dict[str, Any]) -> None:
    import torch

    exact = [tensor.detach().float().requires_grad_() for tensor in (hidden, weight)]
    want = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, targets)
    want.backward()
    for name in (OURS, LARGE, FILTERED):
        got = cases[name]()
        got.backward()
        bound = FILTERED_GRADIENT_ERROR if name == FILTERED else MOST_GRADIENT_ERROR[task["dtype"]]
        errors = [((x.grad.float() - y.grad).norm() / y.grad.norm()).item() for x, y in zip((hidden, weight), exact, strict=True)]
        if abs(got.item() - want.item()) > MOST_LOSS_ERROR * want.item() or not max(errors) <= bound:
            raise SystemExit(
                f"{name} on {task}: loss {got.item()} and gradient errors {errors}; expected {want.item()} and at most {bound}"
            )
        hidden.grad = weight.grad = None


def extra_memory(loss: Callable[[], Any], backward: bool, tensors: tuple[Any, Any]) -> int:
    """Peak of resident memory above what there was before; the gradients are part of it."""
    one_run(losses_of(*make_inputs("8,8,8", "float32", False))[OURS], True, tensors[:0])  # loads what is loaded late
    before = resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    one_run(loss, backward, tensors)
    return resident("VmHWM") - before


def resident(name: str) -> int:
    return next(1024 * int(line.split()[1]) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith(name))


def measure(shape: str, dtype: str, runs: int, with_chunked: bool, with_memory: bool) -> list[list[str]]:
    rows, width, vocabulary = map(int, shape.split(","))
    unit = 2.0 * rows * width * vocabulary
    gradients = (rows + vocabulary) * width * (4 if dtype == "float32" else 2)
    cases = [EAGER, OURS, LARGE, FILTERED] + ([CHUNKED, CHUNKED_BEST] if with_chunked else [])
    answer = harness.measure_in_child(__file__, {"shape": shape, "dtype": dtype, "trained": True, "runs": runs, "cases": cases})
    best = {name: min(samples) for name, samples in answer["seconds"].items()}
    table = []
    for name in cases:
        if f"{name} backward" not in best:
            continue
        memory = ["", ""]
        for backward in (False, True) if with_memory else ():
            task = {"shape": shape, "dtype": dtype, "trained": True, "memory_of": name, "backward": backward}
            extra = harness.measure_in_child(__file__, task)["extra_bytes"] - (gradients if backward else 0)
            memory[backward] = harness.significant(max(0, extra) / 2**20)
        forward, both = best.get(f"{name} forward"), best[f"{name} backward"]
        table.append(
            [
                f"{shape} {dtype}, {name}",
                harness.significant(1e3 * forward) if forward else "",
                f"{forward / best[f'{EAGER} forward']:.2f}" if forward else "",
                harness.significant(1e3 * both),
                f"{both / best[f'{EAGER} backward']:.2f}",
                f"{unit / forward / answer['peak_flops']:.0%}" if forward else "",
                *memory,
            ]
        )
    return table


HEAD = ["head", "forward ms", "ratio", "with gradients ms", "ratio", "share of peak, forward", "forward MiB", "MiB beyond gradients"]


def words() -> tuple[list[str], list[int]]:
    """The language reference that ships with Python, as words: the vocabulary and the text."""
    from pydoc_data.topics import topics

    text = re.findall(r"\w+|[^\w\s]", " ".join(topics[name] for name in sorted(topics)))
    vocabulary = sorted(set(text))
    index = {word: i for i, word in enumerate(vocabulary)}
    return vocabulary, [index[word] for word in text]


def training_curve(loss: Callable[[Any, Any, Any], Any], steps: int) -> list[float]:
    """Losses of a model that reads 8 words and predicts the next."""
    import torch

    vocabulary, text = words()
    data = torch.tensor(text)
    torch.manual_seed(0)
    context, width = 8, 64
    embed = torch.nn.Embedding(len(vocabulary), width)
    mix = torch.nn.Sequential(torch.nn.Linear(context * width, 2 * width), torch.nn.GELU(), torch.nn.Linear(2 * width, width))
    head = torch.nn.Parameter(torch.randn(len(vocabulary), width) / width**0.5)
    optimizer = torch.optim.Adam([*embed.parameters(), *mix.parameters(), head], lr=2e-3)
    curve = []
    for _ in range(steps):
        at = torch.randint(0, len(data) - context, (512,))
        hidden = mix(embed(data[at[:, None] + torch.arange(context)]).flatten(1))
        value = loss(hidden, head, data[at + context])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        curve.append(value.item())
    return curve


def training_curves(steps: int) -> dict[str, list[float]]:
    import torch

    from slipstick import losses

    torch.set_num_threads(1)
    return {
        "torch": training_curve(lambda e, c, y: torch.nn.functional.cross_entropy(e @ c.T, y), steps),
        "slipstick": training_curve(losses.linear_cross_entropy, steps),
    }


def curve_table(curves: dict[str, list[float]]) -> str:
    """Some 25 steps as numbers and as a picture in text."""
    low, high = min(map(min, curves.values())), max(map(max, curves.values()))
    steps = len(curves["torch"])
    lines = []
    for i in sorted({round(j * (steps - 1) / 24) for j in range(25)}):
        values = [curve[i] for curve in curves.values()]
        places = [round(60 * (value - low) / (high - low)) for value in values]
        line = [" "] * 62
        for place, mark in zip(places, "ts", strict=True):
            line[place] = "*" if places[0] == places[1] else mark
        lines.append(f"{i:5d}  {values[0]:.5f}  {values[1]:.5f}  {''.join(line).rstrip()}")
    worst = max(abs(x - y) for x, y in zip(*curves.values(), strict=True))
    return "\n".join([" step  torch    slipstick  (t and s; * where both are)", *lines, f"largest difference {worst:.2g}"])


def draw_curves(curves: dict[str, list[float]], path: str) -> bool:
    """Both curves, and below them their difference, as a PNG. False where there is no matplotlib."""
    if not importlib.util.find_spec("matplotlib"):
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (both, apart) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6), height_ratios=(3, 1), layout="constrained")
    both.plot(curves["torch"], color="0.7", linewidth=5, label="torch cross_entropy of the logits")
    both.plot(curves["slipstick"], color="C0", linewidth=1.2, label="slipstick linear_cross_entropy")
    both.set(ylabel="cross-entropy, nats a word", title="A small language model on Python's language reference")
    both.legend()
    apart.plot([y - x for x, y in zip(*curves.values(), strict=True)], color="C0", linewidth=1)
    apart.set(xlabel="step", ylabel="difference")
    figure.savefig(path, dpi=120)
    return True


def print_table(rows: list[list[str]], markdown: bool, runs: int, warnings: list[str]) -> None:
    print((harness.markdown_table if markdown else harness.text_table)(HEAD, rows))
    machine = harness.machine()
    versions = ", ".join(f"{name} {version}" for name, version in harness.package_versions(["slipstick", "torch"]).items())
    print(
        f"\n{machine['processor']}, {machine['system']}; {versions}; commit {harness.commit()[:12] or 'unknown'}; 1 thread, CPU time, best of {runs}"
    )
    for warning in warnings:
        print(f"\nwarning: {warning}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="ROWS,WIDTH,VOCABULARY", help=f"default: {' '.join(SHAPES)}")
    parser.add_argument("--dtypes", default=DTYPES, help=f"default: {DTYPES}")
    parser.add_argument("--runs", type=int, default=5, help="samples of each case (default: 5)")
    parser.add_argument("--no-chunked", action="store_true", help="leave out torch's own linear_cross_entropy, which takes seconds")
    parser.add_argument("--no-memory", action="store_true", help="leave out peaks of memory, which take a process each")
    parser.add_argument("--curve", action="store_true", help="train a small language model with both losses instead")
    parser.add_argument("--steps", type=int, default=300, help="steps of that training (default: 300)")
    parser.add_argument("--png", default="losses_curve.png", help="where its curves are drawn (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="a table for a README")
    arguments = parser.parse_args()
    for shape in arguments.shapes:
        if not re.fullmatch(r"[1-9]\d*,[1-9]\d*,[1-9]\d*", shape):
            parser.error(f"shape is {shape!r}; expected three positive numbers, as in 1024,512,32768")
    if arguments.runs < 1 or arguments.steps < 2:
        parser.error(f"--runs is {arguments.runs} and --steps {arguments.steps}; expected 1 and 2 or more")
    return arguments


def main() -> None:
    harness.serve_child_task(run_task)
    arguments = parse_arguments()
    if arguments.curve:
        curves = training_curves(arguments.steps)
        print(curve_table(curves))
        if not draw_curves(curves, arguments.png):
            print("warning: matplotlib is not installed; no picture was drawn", file=sys.stderr)
        return
    warnings = harness.load_warnings()
    rows = []
    for shape in arguments.shapes:
        for dtype in arguments.dtypes.split(","):
            rows += measure(shape, dtype, arguments.runs, not arguments.no_chunked, not arguments.no_memory)
    print_table(rows, arguments.markdown, arguments.runs, warnings)


if __name__ == "__main__":
    main()
