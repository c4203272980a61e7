"""What does a loss over two heads' logits cost without either's logits in memory, in time and in bytes?

A student's head learns from a frozen teacher's of the same shape. The rival is torch's eager loss over both materialised logits (of 16-bit
heads: rounded logits, upcast to float32). Both run in one process a shape, in turns, on one thread; times are CPU time, best of the runs, and
are compared as ratios. Before a time counts, losses and gradients are compared with the eager ones in float32. Memory is the peak above what
the inputs hold, in a process of its own for each case. The share of the peak is 4 N D V, two products, over the time of a forward.

    python benchmarks/two_heads.py                  all shapes and losses
    python benchmarks/two_heads.py 1024,512,32768   one shape
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

import harness
from losses import DTYPES, MOST_GRADIENT_ERROR, MOST_LOSS_ERROR, extra_memory, one_run, peak_flops, print_table

SHAPES = ("1024,512,32768",)
LOSSES = ("forward_kl", "reverse_kl", "jensen_shannon", "binary_kl", "difference")
EAGER, OURS = "torch eager", "slipstick"


def make_inputs(shape: str, dtype: str) -> tuple[list[Any], Any]:
    """Random normal heads: hidden and weight of student and teacher; the student's ask for gradients."""
    import torch

    rows, width, vocabulary = map(int, shape.split(","))
    torch.manual_seed(0)
    tensors = [torch.randn(size, width) / scale for _ in range(2) for size, scale in ((rows, 1.0), (vocabulary, width**0.5))]
    tensors = [tensor.to(getattr(torch, dtype)) for tensor in tensors]
    return [*(tensor.requires_grad_() for tensor in tensors[:2]), *tensors[2:]], torch.randint(0, vocabulary, (rows,))


def eager(loss: str, tensors: list[Any], targets: Any) -> Any:
    import torch

    hidden, weight, teacher_hidden, teacher_weight = tensors
    functional = torch.nn.functional
    z, w = (hidden @ weight.T).float(), (teacher_hidden @ teacher_weight.T).float()
    if loss == "difference":
        return functional.cross_entropy(z - w, targets)
    if loss == "binary_kl":
        probability = torch.sigmoid(w)
        entropy = functional.binary_cross_entropy_with_logits(w, probability, reduction="sum")
        return (functional.binary_cross_entropy_with_logits(z, probability, reduction="sum") - entropy) / len(hidden)
    log_p, log_q = torch.log_softmax(z, 1), torch.log_softmax(w, 1)
    if loss == "forward_kl":
        return functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    if loss == "reverse_kl":
        return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    log_m = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0))
    return sum(functional.kl_div(log_m, of, reduction="batchmean", log_target=True) for of in (log_p, log_q)) / 2


def ours(loss: str, tensors: list[Any], targets: Any) -> Any:
    from slipstick import losses

    if loss == "difference":
        return losses.logit_difference_cross_entropy(*tensors, targets, threshold=None)
    return losses.distillation_loss(*tensors, divergence=loss)


def cases_of(loss: str, tensors: list[Any], targets: Any) -> dict[str, Callable[[], Any]]:
    return {EAGER: lambda: eager(loss, tensors, targets), OURS: lambda: ours(loss, tensors, targets)}


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    tensors, targets = make_inputs(task["shape"], task["dtype"])
    cases, student = cases_of(task["loss"], tensors, targets), (tensors[0], tensors[1])
    if "memory_of" in task:
        return {"extra_bytes": extra_memory(cases[task["memory_of"]], task["backward"], student)}
    verify(cases[OURS], tensors, targets, task)
    samples: dict[str, list[float]] = {}
    for _ in range(task["runs"]):
        for name, case in cases.items():
            for backward in (False, True):
                samples.setdefault(f"{name} {backward}", []).append(one_run(case, backward, student))
    return {"seconds": samples, "peak_flops": peak_flops()}


def verify(case: Callable[[], Any], tensors: list[Any], targets: Any, task: dict[str, Any]) -> None:
    exact = [tensor.detach().float() for tensor in tensors]
    want = eager(task["loss"], [*(tensor.requires_grad_() for tensor in exact[:2]), *exact[2:]], targets)
    want.backward()
    got = case()
    got.backward()
    errors = [((x.grad.float() - y.grad).norm() / y.grad.norm()).item() for x, y in zip(tensors[:2], exact[:2], strict=True)]
    if abs(got.item() - want.item()) > MOST_LOSS_ERROR * want.item() or not max(errors) <= MOST_GRADIENT_ERROR[task["dtype"]]:
        raise SystemExit(
            f"{task}: loss {got.item()} and gradient errors {errors}; expected {want.item()} and at most {MOST_GRADIENT_ERROR}"
        )


def measure(shape: str, dtype: str, loss: str, runs: int, with_memory: bool) -> list[list[str]]:
    rows, width, vocabulary = map(int, shape.split(","))
    task = {"shape": shape, "dtype": dtype, "loss": loss, "runs": runs}
    gradients = (rows + vocabulary) * width * (4 if dtype == "float32" else 2)
    answer = harness.measure_in_child(__file__, task)
    best = {name: min(samples) for name, samples in answer["seconds"].items()}
    table = []
    for name in (EAGER, OURS):
        memory = ["", ""]
        for backward in (False, True) if with_memory else ():
            extra = harness.measure_in_child(__file__, {**task, "memory_of": name, "backward": backward})["extra_bytes"]
            memory[backward] = harness.significant(max(0, extra - (gradients if backward else 0)) / 2**20)
        forward, both = best[f"{name} False"], best[f"{name} True"]
        table.append(
            [
                f"{shape} {dtype}, {loss}, {name}",
                harness.significant(1e3 * forward),
                f"{forward / best[f'{EAGER} False']:.2f}",
                harness.significant(1e3 * both),
                f"{both / best[f'{EAGER} True']:.2f}",
                f"{4.0 * rows * width * vocabulary / forward / answer['peak_flops']:.0%}",
                *memory,
            ]
        )
    return table


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=SHAPES, metavar="ROWS,WIDTH,VOCABULARY", help=f"default: {' '.join(SHAPES)}")
    parser.add_argument("--dtypes", default=DTYPES, help=f"default: {DTYPES}")
    parser.add_argument("--losses", default=",".join(LOSSES), help=f"default: {','.join(LOSSES)}")
    parser.add_argument("--runs", type=int, default=5, help="samples of each case (default: 5)")
    parser.add_argument("--no-memory", action="store_true", help="leave out peaks of memory, which take a process each")
    parser.add_argument("--markdown", action="store_true", help="a table for a README")
    arguments = parser.parse_args()
    for shape in arguments.shapes:
        if not re.fullmatch(r"[1-9]\d*,[1-9]\d*,[1-9]\d*", shape):
            parser.error(f"shape is {shape!r}; expected three positive numbers, as in 1024,512,32768")
    for loss in arguments.losses.split(","):
        if loss not in LOSSES:
            parser.error(f"--losses holds {loss!r}; expected some of {', '.join(LOSSES)}")
    return arguments


def main() -> None:
    harness.serve_child_task(run_task)
    arguments = parse_arguments()
    warnings = harness.load_warnings()
    rows = []
    for shape in arguments.shapes:
        for dtype in arguments.dtypes.split(","):
            for loss in arguments.losses.split(","):
                rows += measure(shape, dtype, loss, arguments.runs, not arguments.no_memory)
    print_table(rows, arguments.markdown, arguments.runs, warnings)


if __name__ == "__main__":
    main()
