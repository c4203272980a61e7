"""What a training step of a linear head costs when its loss is of the spherical family: SphericalHead against the dense step.

    python benchmarks/spherical.py                                           50 000 classes, width 128
    python benchmarks/spherical.py --classes 128000 --width 1024 --batches 128

Every contender does the same work: one step of gradient descent on the Z-loss of a batch, with the gradient for hidden. The dense steps
compute the logits, their gradient, and update the weight in place with one product; NumPy's in float64, torch's in both precisions. Before
anything is timed each contender's weight after three steps was compared with that of the float64 one. One thread, CPU time, in a process of
its own; samples of all contenders are interleaved. SphericalHead computes in float64; its ratio is given to the fastest dense step in
float64 and to the fastest of all.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from typing import Any

import harness
import numpy as np

RATE, ALPHA, BETA = 0.05, 0.1, 10.0
PROOF_STEPS = 3
AGREEMENT = {"float64": 1e-10, "float32": 1e-5}  # of the largest weight
SAMPLE_SECONDS = 0.05  # a sample takes as many steps as fill this, at least one


class Spherical:
    precision = "float64"

    def __init__(self, weight: np.ndarray) -> None:
        from slipstick.losses import SphericalHead

        self.head = SphericalHead(weight, loss="z_score", alpha=ALPHA, beta=BETA)

    def prepare(self, hidden: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
        return hidden, labels

    def step(self, hidden: Any, labels: Any) -> Any:
        return self.head.step(hidden, labels, learning_rate=RATE)[1]

    def weight(self) -> np.ndarray:
        return self.head.materialise()


class DenseNumpy:
    precision = "float64"

    def __init__(self, weight: np.ndarray) -> None:
        self.matrix = weight.copy()

    def prepare(self, hidden: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
        return hidden, labels

    def step(self, hidden: Any, labels: Any) -> Any:
        logits = hidden @ self.matrix.T
        batch, classes = logits.shape
        rows = np.arange(batch)
        mean = logits.mean(1)
        deviation = np.sqrt(np.einsum("nj,nj->n", logits, logits) / classes - mean**2)
        zeta = (logits[rows, labels] - mean) / deviation
        slope = -1 / (1 + np.exp(-ALPHA * (BETA - zeta))) / deviation / batch
        logits *= (-slope * zeta / deviation / classes)[:, None]  # in place, the gradient of the logits
        logits -= (slope / classes * (1 - zeta * mean / deviation))[:, None]
        logits[rows, labels] += slope
        gradient = logits @ self.matrix
        self.matrix -= RATE * (logits.T @ hidden)
        return gradient

    def weight(self) -> np.ndarray:
        return self.matrix


class DenseTorch:
    def __init__(self, weight: np.ndarray, precision: str) -> None:
        import torch

        torch.set_num_threads(1)
        self.torch, self.precision = torch, precision
        self.matrix = torch.from_numpy(weight).to(getattr(torch, precision), copy=True)

    def prepare(self, hidden: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
        return self.torch.from_numpy(hidden).to(self.matrix.dtype), self.torch.from_numpy(labels)

    def step(self, hidden: Any, labels: Any) -> Any:
        logits = hidden @ self.matrix.T
        batch, classes = logits.shape
        rows = self.torch.arange(batch)
        mean = logits.mean(1)
        deviation = (logits.square().mean(1) - mean.square()).sqrt()
        zeta = (logits[rows, labels] - mean) / deviation
        slope = -self.torch.sigmoid(ALPHA * (BETA - zeta)) / deviation / batch
        logits.mul_((-slope * zeta / deviation / classes)[:, None]).sub_((slope / classes * (1 - zeta * mean / deviation))[:, None])
        logits[rows, labels] += slope
        gradient = logits @ self.matrix
        self.matrix.addmm_(logits.T, hidden, alpha=-RATE)
        return gradient

    def weight(self) -> np.ndarray:
        return self.matrix.double().numpy()


def contenders(weight: np.ndarray) -> dict[str, Any]:
    found = {"SphericalHead": Spherical(weight), "NumPy float64": DenseNumpy(weight)}
    if importlib.util.find_spec("torch"):
        found |= {f"torch {precision}": DenseTorch(weight, precision) for precision in ("float64", "float32")}
    return found


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    """Proof and samples of one size of batch: seconds a step and disagreement by contender."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(task["classes"], task["width"])) / math.sqrt(task["width"])

    def batch() -> tuple[np.ndarray, np.ndarray]:
        return random.normal(size=(task["batch"], task["width"])), random.integers(0, task["classes"], task["batch"])

    rivals = contenders(weight)
    for data in [batch() for _ in range(PROOF_STEPS)]:
        for rival in rivals.values():
            rival.step(*rival.prepare(*data))
    reference = rivals["NumPy float64"].weight()
    errors = {name: float(np.abs(rival.weight() - reference).max() / np.abs(reference).max()) for name, rival in rivals.items()}
    for name, rival in rivals.items():
        if not errors[name] <= AGREEMENT[rival.precision]:
            raise SystemExit(f"{name}: weights differ by {errors[name]:.1e} of the largest; expected {AGREEMENT[rival.precision]:.0e}")

    answers: dict[str, Any] = {name: {"cpu_seconds": [], "wall_seconds": []} for name in rivals}
    counts = dict.fromkeys(rivals, 1)
    for run in range(-1, task["runs"]):  # run -1 warms up and counts steps
        for name, rival in rivals.items():
            data = [rival.prepare(*batch()) for _ in range(counts[name])]
            clock = harness.Clock()
            with clock:
                for hidden, labels in data:
                    rival.step(hidden, labels)
            if run < 0:
                counts[name] = max(1, math.ceil(SAMPLE_SECONDS / max(clock.cpu_seconds, 1e-6)))
            else:
                answers[name]["cpu_seconds"].append(clock.cpu_seconds / counts[name])
                answers[name]["wall_seconds"].append(clock.wall_seconds / counts[name])
    return {"answers": answers, "errors": errors}


def main() -> None:
    harness.serve_child_task(run_task)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--batches", default="1,32,128", help="rows a step, with commas (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=7, help="samples of each contender (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    warnings = harness.load_warnings()
    cases: dict[str, harness.Samples] = {}
    rows, names, worst = [], [], 0.0
    for batch in map(int, arguments.batches.split(",")):
        task = {"classes": arguments.classes, "width": arguments.width, "batch": batch, "runs": arguments.runs}
        answer = harness.measure_in_child(__file__, task)
        samples = {name: harness.Samples(**times) for name, times in answer["answers"].items()}
        cases |= {f"{name}, {batch} rows": of for name, of in samples.items()}
        ours = samples.pop("SphericalHead")
        names = list(samples)
        in_double = min(of.median for name, of in samples.items() if name.endswith("float64"))
        worst = max(worst, answer["errors"]["SphericalHead"])
        fastest = min(of.median for of in samples.values())
        times = (f"{1e3 * of.median:.3g}" for of in (ours, *samples.values()))
        rows.append([str(batch), *times, f"{in_double / ours.median:.3g}x", f"{fastest / ours.median:.3g}x"])
    head = ["rows a step", "SphericalHead, ms", *(f"{name}, ms" for name in names), "float64 / ours", "fastest / ours"]
    print((harness.markdown_table if arguments.markdown else harness.text_table)(head, rows))
    print()
    machine, versions = harness.machine(), harness.package_versions(["numpy", "torch"])
    print(
        f"{arguments.classes} classes, width {arguments.width}; CPU milliseconds a step, one thread, median of {arguments.runs}; weights after "
        f"{PROOF_STEPS} steps within {worst:.0e} of the dense ones"
    )
    print(
        f"{machine['processor']}, {machine['system']}; Python {machine['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f"; commit {harness.commit()[:12] or 'unknown'}"
    )
    for warning in warnings + harness.sample_warnings(cases):
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    main()
