"""A small language model trained with slipstick: the streamed loss, small formats emulated, and its own log packed at the end.

    python benchmarks/train_lm.py                                        trains, logs to train_lm.log, packs that
    python benchmarks/train_lm.py --weights mxfp4 --activations e4m3fn --gradients e5m2 --z-loss 1e-4
    python benchmarks/train_lm.py --study spikes                         do fewer mantissa bits spike at high learning rates?
    python benchmarks/train_lm.py --study collapse                       softmax collapse stops grokking, StableMax does not

The text is the language reference that ships with Python (pydoc_data), its words the vocabulary: a head of thousands of classes over a model of a
hundred thousand parameters, so that the head is most of the work, as it is in small language models. Formats are those of the inputs of every
linear layer and of the head; the products inside attention stay float32, and so does the gradient of the logits, except in the study of spikes,
which makes logits, over characters, to round it. Both studies are of published effects, small: "To FP8 and Back Again" (Lee et al. 2024, arXiv
2405.18710) and "Grokking at the Edge of Numerical Stability" (Prieto et al. 2025, arXiv 2501.04697). They print a table over seeds and, with
matplotlib, draw STUDY.png; --quick runs them in seconds. Needs torch.

What they found, with their defaults unless said otherwise:

- collapse, 3 seeds, x + y mod 59: float32 softmax reached 52-65% collapsed rows, float16 softmax 100%, and neither learnt the unseen pairs in 2000
  steps (6-30% right). StableMax learnt 99% by step 2000, the perpendicular gradient by step 100, both with no row collapsed. Float32 softmax
  lagged before its rows collapsed, too, so that collapse is not shown to be the only cause. Two things are not as in the paper: 80% of the
  pairs are learnt from, since with 40% of so small a table StableMax had 0% right after 20,000 steps (one seed, beta2 0.99 and 0.999), and
  beta2 is 0.99 where the paper gives StableMax 0.999.
- spikes: seen with one mantissa bit at the highest rate, by way of the gradient of the logits; not with two or three. Ten seeds: at 0.003 and
  0.01 no run spiked or diverged. At 0.03 the ten float32 runs spiked 7 times and ended at 2.65 nats (medians), E8M3 9 times and 2.55, E8M2 11
  times and 2.45; of E8M1 all ten diverged, with 148 spikes, ending at 3.47, worse than the frequencies of the characters (3.25): sign test against
  float32 of the same seeds, p = 0.002 (E8M2: 0.38). Its log Z ended near -50 (float32: 4): what truncation takes from the gradient of the logits
  does not sum to zero, so they drift, and large ones are coarse. E8M1 rounded to nearest spiked 26 times (2.95 nats, p = 0.004); with that gradient
  float32 6 times (2.45 nats), with a z-loss of 0.01 10 times (2.46): neither tells from float32. The paper's spikes at three to
  six bits, in far larger models, are not reproduced. Tried before, one run each with seed 100: 2000 steps (E8M1 diverged at 0.01, too; E8M2 and E8M3 at neither rate, nor without
  weight decay); attention's products truncated as well (the same); 4 layers, 200 steps, rates up to 0.03 for all but one bit (no format stood
  out); the same with post-norm, which at 0.01 failed to learn with 23 and 3 bits and learnt with 2 and 1; words in place of characters (no format
  stood out). E8M1 diverged, too, without weight decay in 4 layers, on a text of 4000 characters, with a z-loss of 1e-4 and from GPT's
  initialisation. With float32 gradients of the logits, words and 200 steps, spikes had come with the rate alone: at 0.3, four seeds, 20 times with
  23 bits, 16 with 2, 17 with 1. The count of spikes was fixed before; to compare it run by run, after seed 0, where float32 spiked at 0.03, too.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import text_table
from losses import words
from numpy.typing import NDArray
from torch import nn

from slipstick import logs, losses, lowbit
from slipstick.lowbit import studies

KINDS = ("weights", "activations", "gradients")
CONTEXT, BATCH, WIDTH, HEADS, LAYERS, WARM_UP = 32, 16, 64, 4, 2, 20


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.mix_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mix = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.mix(self.mix_norm(x))


class Model(nn.Module):
    """A transformer up to its last norm; who calls it takes the loss of the head, streamed or from logits."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocabulary, bias=False)
        nn.init.normal_(self.head.weight, std=WIDTH**-0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.norm(self.blocks(x)).flatten(0, 1)


def adamw(model: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.1)


def windows(text: torch.Tensor, count: int) -> torch.Tensor:
    """Places of so many random windows of the text, a row each."""
    return torch.randint(0, len(text) - CONTEXT - 1, (count, 1)) + torch.arange(CONTEXT)


class Trainer:
    """Steps of AdamW on random windows of the text, same seed, same windows."""

    def __init__(self, seed: int, learning_rate: float, z_loss: float = 0.0, **formats: Any) -> None:
        vocabulary, text = words()
        self.text = torch.tensor(text)
        torch.manual_seed(seed)
        self.model = Model(len(vocabulary))
        self.optimizer = adamw(self.model, learning_rate)
        self.learning_rate, self.z_loss, self.formats = learning_rate, z_loss, formats
        if any(formats.values()):
            lowbit.emulate(self.model.blocks, **formats, seed=seed)
        self.steps = 0

    def step(self) -> dict[str, Any]:
        """One step; what it saw: cross-entropy in nats, the mean of log Z and of the entropy over the tokens, the norm of the gradient."""
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * min(1.0, self.steps / WARM_UP)
        at = windows(self.text, BATCH)
        hidden, head = self.rounded(self.model(self.text[at]), "activations"), self.rounded(self.model.head.weight, "weights")
        rows = losses.row_statistics(hidden, head, self.text[at + 1].flatten(), want=("target", "lse", "entropy"))
        cross_entropy = (rows.lse - rows.target).mean()
        loss = cross_entropy + self.z_loss * rows.lse.square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), math.inf)
        self.optimizer.step()
        seen = {"loss": cross_entropy, "log_z": rows.lse.mean(), "entropy": rows.entropy.mean(), "grad_norm": norm}
        return {name: value.item() for name, value in seen.items()}

    def rounded(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        fmt = self.formats.get(kind)
        return x if fmt is None else lowbit.quantize(x, fmt)


def train(arguments: argparse.Namespace) -> None:
    trainer = Trainer(arguments.seed, arguments.learning_rate, arguments.z_loss, **{kind: getattr(arguments, kind) for kind in KINDS})
    path = pathlib.Path(arguments.log)
    with path.open("w", encoding="utf-8") as log:
        for number in range(1, arguments.steps + 1):
            begin = time.perf_counter()
            seen = trainer.step()
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            figures = " ".join(f"{name}={value:.5g}" for name, value in seen.items())
            line = f"{now} INFO train step={number} {figures} ms={1e3 * (time.perf_counter() - begin):.1f}"
            print(line, file=log)
            if number in (1, arguments.steps) or number % max(1, arguments.steps // 10) == 0:
                print(line)
    raw = path.read_bytes()
    rows = []
    for level in logs.LEVELS:
        packed = logs.compress(raw, level=level)
        if logs.decompress(packed) != raw:
            raise SystemExit(f"the log did not come back at level {level}")
        path.with_suffix(path.suffix + ".slip").write_bytes(packed)  # the last one, the smallest, stays
        rows.append([level, f"{len(packed):,}", f"{len(raw) / len(packed):.1f}"])
    print(f"\n{path}: {len(raw):,} bytes, packed to {path}.slip; every byte came back")
    print(text_table(["level", "bytes", "ratio"], rows))


# "To FP8 and Back Again": the inputs of matrix products lose mantissa bits by truncation, exponents stay those of float32.


class Masked(NamedTuple):
    """A number of mantissa bits, and what is done otherwise than in the paper."""

    bits: int
    rounding: str = "toward_zero"
    logit_gradient: bool = True  # whether that of the logits is rounded, too
    z_loss: float = 0.0

    @property
    def name(self) -> str:
        changes = {
            "nearest": self.rounding != "toward_zero",
            "float32 logit gradient": not self.logit_gradient,
            f"z-loss {self.z_loss:g}": self.z_loss > 0,
        }
        return ", ".join([f"e8m{self.bits}", *(change for change, made in changes.items() if made)])

    def controls(self) -> list[Masked]:
        """What tells biased from unbiased rounding, the logits from the other layers, and the drift of log Z from its effect."""
        return [self._replace(rounding="nearest_even"), self._replace(logit_gradient=False), self._replace(z_loss=0.01)]


def characters() -> tuple[torch.Tensor, int, float]:
    """The language reference, a number for each character, how many there are, and the entropy of their frequencies in nats."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    index = {character: i for i, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([index[character] for character in text])
    share = numbers.bincount() / len(numbers)
    return numbers, len(index), -(share * share.log()).sum().item()


def spikes_run(format: Masked, seed: int, learning_rate: float, steps: int) -> Iterator[tuple[float, float | None, float]]:
    """(loss, logit sharpness every twentieth step, mean of log Z) of one run, from the first step at the full rate.

    The same seed is the same start and the same windows of the text, whatever the format. Every linear layer and the head has its input,
    its weight and the gradient of its output rounded; the products inside attention are float32.
    """
    text, classes, _ = characters()
    torch.manual_seed(seed)
    model = Model(classes)
    optimizer = adamw(model, learning_rate)
    if format.bits < 23:
        kinds: dict[str, Any] = dict.fromkeys(KINDS, f"e8m{format.bits}")
        lowbit.emulate(model.blocks, **kinds, rounding=format.rounding)
        if not format.logit_gradient:
            kinds["gradients"] = None
        lowbit.emulate(model.head, **kinds, rounding=format.rounding)
    for number in range(steps):
        at = windows(text, BATCH // 2)
        logits, targets = model.head(model(text[at])), text[at + 1].flatten()
        loss = nn.functional.cross_entropy(logits, targets)
        log_z = logits.logsumexp(1)
        sharpness = None
        if number % 20 == 19:  # of the last token of each window, as in the paper
            last = slice(CONTEXT - 1, None, CONTEXT)
            sharpness = studies.logit_sharpness(logits[last].detach(), targets[last], reduction="mean")
        yield loss.item(), sharpness, log_z.mean().item()
        optimizer.zero_grad()
        (loss + format.z_loss * log_z.square().mean()).backward()
        optimizer.step()


def spike_count(excess: Sequence[float] | NDArray[np.float64]) -> int:
    """How often an excess rises by half a nat above the median of the 20 before it, once for each rise."""
    count, inside = 0, False
    for i in range(20, len(excess)):
        above = not excess[i] <= statistics.median(excess[i - 20 : i]) + 0.5
        count += above and not inside
        inside = above
    return count


def paired_p(ours: int, theirs: int) -> float:
    """The exact sign test, two-sided: so many pairs in which the one run was worse, so many in which the other was; ties tell nothing."""
    pairs = ours + theirs
    return min(1.0, 2 * sum(math.comb(pairs, k) for k in range(min(ours, theirs) + 1)) / 2**pairs)


def spikes_sweep(arguments: argparse.Namespace) -> tuple[studies.Sweep, dict[tuple[Masked, int, float], list[float]]]:
    """The runs, those of the controls at the highest rate only, and the mean of log Z at every step of (format, seed, learning rate)."""
    log_z: dict[tuple[Masked, int, float], list[float]] = {}

    def watched(format: Masked, seed: int, learning_rate: float) -> Iterator[tuple[float, float | None]]:
        seen = log_z.setdefault((format, seed, learning_rate), [])
        for loss, sharpness, mean in spikes_run(format, seed, learning_rate, arguments.steps):
            seen.append(mean)
            yield loss, sharpness

    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    formats = [Masked(bits) for bits in arguments.mantissa_bits]
    runs = studies.sweep(watched, formats, seeds, arguments.learning_rates, progress=True).runs
    fewest = min(formats)
    if fewest.bits < 23:
        runs += studies.sweep(watched, fewest.controls(), seeds, [max(arguments.learning_rates)], progress=True).runs
    return studies.Sweep(runs), log_z


def study_spikes(arguments: argparse.Namespace) -> None:
    """A run diverged if its last tenth is not below the entropy of the characters' frequencies: it predicts no better than a table of those.

    It spiked if `spike_count` finds one in its excess over float32 at the lowest learning rate: the same windows of the text, so that
    their noise is not counted. A run is worse than that of float32 of the same seed and rate if it alone diverged or, else, spiked more often.
    """
    result, log_z = spikes_sweep(arguments)
    chance = characters()[2]
    exact = {(run.seed, run.learning_rate): run for run in result.select(format=Masked(23))}

    def excess(run: studies.Run) -> NDArray[np.float64]:
        calm = exact[run.seed, result.learning_rates[0]].losses
        steps = min(len(run.losses), len(calm))
        return run.losses[:steps] - calm[:steps]

    def outcome(run: studies.Run) -> tuple[bool, int]:
        return not run.final_loss < chance, spike_count(excess(run))

    rows = []
    panels: dict[str, dict[str, tuple[Sequence[int], Any]]] = {}
    for rate in result.learning_rates:
        panel = panels.setdefault(f"learning rate {rate:g}", {})
        for kind in result.formats:
            runs = result.select(format=kind, learning_rate=rate)
            if not runs:
                continue
            curve = excess(runs[0])
            panel[kind.name] = range(len(curve)), curve
            outcomes = [outcome(run) for run in runs]
            pairs = list(zip(outcomes, (outcome(exact[run.seed, rate]) for run in runs), strict=True))
            worse, better = sum(own > other for own, other in pairs), sum(own < other for own, other in pairs)
            figures = [
                statistics.median(values)
                for values in zip(
                    *((run.final_loss, np.mean(log_z[kind, run.seed, rate][-20:]), np.nanmax(run.sharpness)) for run in runs), strict=True
                )
            ]
            counts = len(runs), sum(diverged for diverged, _ in outcomes), sum(n > 0 for _, n in outcomes), sum(n for _, n in outcomes)
            test = ["-", "-"] if kind == Masked(23) else [f"{worse}:{better}", f"{paired_p(worse, better):.2g}"]
            rows.append([f"{rate:g}", kind.name, *map(str, counts), *test, *(f"{figure:.3g}" for figure in figures)])
    heads = ["learning rate", "format", "runs", "diverged", "spiked", "spikes", "worse", "p", "final loss", "log Z", "largest sharpness"]
    print(text_table(heads, rows))
    print(f"diverged: ends at {chance:.3g} nats, the entropy of single characters, or above")
    print("worse: than float32 of the same seed and rate, in divergence or else in number of spikes : better; p: exact sign test of these")
    draw(arguments.plot, panels, f"excess in nats, seed {arguments.seed}", "step")


# "Grokking at the Edge of Numerical Stability": x + y mod p from a part of the table, without weight decay.


def modular_addition(modulus: int, share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
    inputs = pairs + torch.tensor([0, modulus])  # what is 1 in the two one-hot vectors, side by side
    order = torch.randperm(len(pairs))
    train, test = order.tensor_split([round(share * len(pairs))])
    answers = pairs.sum(1) % modulus
    return inputs[train], answers[train], inputs[test], answers[test]


CURES = ("softmax float16", "softmax", "stablemax", "perpendicular")


def collapsed_share(kind: str, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> float:
    """Share of the rows whose sum of exponentials is that of the target alone (definition 3 of the paper), in the precision of the loss."""
    if kind == "softmax float16":
        logits = (hidden @ head.T).half()
        own = logits.gather(1, targets[:, None])
        return ((logits - own).exp().sum(1) == 1).float().mean().item()
    logit_map = "stablemax" if kind == "stablemax" else None
    return losses.row_statistics(hidden, head, targets, want=("collapsed",), logit_map=logit_map).collapsed.float().mean().item()


def collapse_run(kind: str, steps: int, seed: int, modulus: int, share: float) -> Iterator[tuple[int, float, float, float]]:
    """(step, loss, share of collapsed rows, accuracy on unseen pairs) every fifty steps and at the end, until nearly all of them are right.

    A bias-free MLP with two hidden layers of 200, no weight decay, the whole batch and an Adam that divides by hardly anything, as in the
    authors' code; "softmax float16" takes the softmax of its logits in float16, as that does.
    """
    torch.manual_seed(seed)
    x, y, unseen, answers = modular_addition(modulus, share)
    width = 200
    first = nn.EmbeddingBag(2 * modulus, width, mode="sum")  # a linear layer of one-hot vectors, without the zeros
    body = nn.Sequential(first, nn.ReLU(), nn.Linear(width, width, bias=False), nn.ReLU())
    nn.init.uniform_(first.weight, -((2 * modulus) ** -0.5), (2 * modulus) ** -0.5)
    head = nn.Parameter(nn.Linear(width, modulus).weight.detach().clone())
    parameters = [*body.parameters(), head]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0, eps=1e-25)
    for step in range(steps + 1):
        hidden = body(x)
        if kind == "softmax float16":
            value = nn.functional.cross_entropy((hidden @ head.T).half(), y)
        elif kind == "stablemax":
            value = losses.stablemax_cross_entropy(hidden, head, y)
        else:
            value = losses.linear_cross_entropy(hidden, head, y)
        if step % 50 == 0 or step == steps:
            with torch.no_grad():
                collapsed = collapsed_share(kind, hidden, head, y)
                accuracy = (losses.row_statistics(body(unseen), head, want=("argmax",)).argmax == answers).float().mean().item()
            yield step, value.item(), collapsed, accuracy
            if accuracy >= 0.99:
                return
        optimizer.zero_grad()
        value.backward()
        if kind == "perpendicular":
            losses.project_gradients(parameters, preserve_norm=True)  # as the authors' code
        optimizer.step()


def draw(path: str | None, panels: Mapping[str, Mapping[str, tuple[Sequence[int], Any]]], label: str, below: str) -> None:
    """Curves, each of (x, y), as a PNG, a panel for each group, where matplotlib is installed."""
    if path is None:
        return
    try:
        from matplotlib import pyplot
    except ImportError:
        print("matplotlib is not installed; no plot", file=sys.stderr)
        return
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 4), sharey=True, layout="constrained", squeeze=False)
    for axis, (title, curves) in zip(axes[0], panels.items(), strict=True):
        for name, curve in curves.items():
            axis.plot(*curve, label=name, linewidth=1)
        axis.set(title=title, ylabel=label, xlabel=below)
        axis.legend()
    figure.savefig(path, dpi=120)
    print(f"drawn in {path}")


def study_collapse(arguments: argparse.Namespace) -> None:
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    runs: dict[str, list[list[tuple[int, float, float, float]]]] = {}
    for kind in CURES:
        for seed in seeds:
            runs.setdefault(kind, []).append(list(collapse_run(kind, arguments.steps, seed, arguments.modulus, arguments.share)))
            step, loss, collapsed, accuracy = runs[kind][-1][-1]
            print(f"{kind}, seed {seed}: step {step} loss {loss:.3g} collapsed {collapsed:.1%} unseen {accuracy:.1%}", file=sys.stderr)
    rows = []
    for kind, curves in runs.items():
        largest = [max(point[2] for point in curve) for curve in curves]
        half = [next((point[0] for point in curve if point[2] > 0.5), None) for curve in curves]
        learnt = [next((point[0] for point in curve if point[3] >= 0.95), None) for curve in curves]
        final = [curve[-1][3] for curve in curves]
        shares = [f"{statistics.median(values):.1%} ({min(values):.1%}-{max(values):.1%})" for values in (largest, final)]
        rows.append([kind, str(len(curves)), shares[0], reached(half), shares[1], reached(learnt)])
    print(text_table(["loss", "runs", "most collapsed rows", "half from step", "unseen pairs at the end", "95% from step"], rows))
    panels = {
        title: {kind: ([point[0] for point in curves[0]], [point[index] for point in curves[0]]) for kind, curves in runs.items()}
        for title, index in (("collapsed rows of the training set", 2), ("accuracy on unseen pairs", 3))
    }
    draw(arguments.plot, panels, f"share, seed {arguments.seed}", "step")


def reached(steps: Sequence[int | None]) -> str:
    """The range of the steps at which runs got somewhere, and how many of them did."""
    found = [step for step in steps if step is not None]
    if not found:
        return "never"
    span = f"{min(found)}" if min(found) == max(found) else f"{min(found)}-{max(found)}"
    return span if len(found) == len(steps) else f"{span} in {len(found)} of {len(steps)}"


SPIKES: dict[str, Any] = {"steps": 600, "seeds": 10, "mantissa_bits": [23, 3, 2, 1], "learning_rates": [3e-3, 1e-2, 3e-2]}
COLLAPSE: dict[str, Any] = {"steps": 2000, "seeds": 3, "modulus": 59}
DEFAULTS: dict[str | None, dict[str, Any]] = {"spikes": SPIKES, "collapse": COLLAPSE, None: {"steps": 200}}
QUICK: dict[str, Any] = {"steps": 30, "seeds": 1, "mantissa_bits": [23, 1], "learning_rates": [1e-1], "modulus": 11}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=["spikes", "collapse"], help="reproduce a published effect instead")
    parser.add_argument("--quick", action="store_true", help="the study in seconds: that it runs, not what it finds")
    parser.add_argument("--steps", type=int, help="default: 200, and 600 and 2000 of the two studies")
    parser.add_argument("--seed", type=int, default=0, help="of the first run (default: 0)")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="default: 3e-3")
    parser.add_argument("--z-loss", type=float, default=0.0, help="weight of the mean of log^2 Z (default: 0)")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", metavar="FORMAT", help="a format of slipstick.lowbit, as e4m3fn or mxfp4; default: float32")
    parser.add_argument("--log", default="train_lm.log", help="default: train_lm.log")
    parser.add_argument("--seeds", type=int, help="runs of each case of a study (default: 10 of spikes, 3 of collapse)")
    parser.add_argument("--mantissa-bits", type=int, nargs="+", help="of --study spikes, 23 among them (default: 23 3 2 1)")
    parser.add_argument("--learning-rates", type=float, nargs="+", help="of --study spikes (default: 0.003 0.01 0.03)")
    parser.add_argument("--modulus", type=int, help="of --study collapse (default: 59)")
    parser.add_argument("--share", type=float, default=0.8, help="of the pairs to learn from, of --study collapse (default: 0.8)")
    parser.add_argument("--plot", metavar="PNG", help="draw the study's curves there (default: STUDY.png)")
    arguments = parser.parse_args(argv)
    if arguments.study and any(getattr(arguments, name) != parser.get_default(name) for name in ("learning_rate", "z_loss", *KINDS)):
        parser.error("--study chooses learning rates, losses and formats itself")
    if arguments.quick and not arguments.study:
        parser.error("--quick is of a --study")
    if arguments.mantissa_bits is not None and 23 not in arguments.mantissa_bits:
        parser.error(f"--mantissa-bits is {arguments.mantissa_bits}; expected 23 among them, against which the others are measured")
    for name, value in {**DEFAULTS[arguments.study], **(QUICK if arguments.quick else {})}.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    if arguments.study and arguments.plot is None:
        arguments.plot = f"{arguments.study}.png"
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    torch.set_num_threads(1)
    {"spikes": study_spikes, "collapse": study_collapse, None: train}[arguments.study](arguments)


if __name__ == "__main__":
    main()
