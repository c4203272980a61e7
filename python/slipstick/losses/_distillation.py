"""Divergences between the distributions of a teacher's and a student's head, neither set of logits kept.

Both weights are streamed together, tile by tile; the divergences over a few classes need no more than those classes' logits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from slipstick._arguments import int64, is_torch, thread_count

from . import _head
from ._arrays import Array, as_autocast, dtype_name, library, log_softmax, quiet, required, stop_gradient, taken, where, whole_numbers
from ._gathered_logits import gathered_logits
from ._labels import check_labels
from ._rows import Rows, check_choice, check_flag, check_number, check_reduction, reduce_losses
from ._two_head_losses import Head, check_two_heads, two_heads
from ._two_head_statistics import check_mixture

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._rows import Streaming

TEACHER = ("teacher_hidden", "teacher_weight")
DIVERGENCES = ("forward_kl", "reverse_kl", "jensen_shannon", "binary_kl", "binary_kl_norm")


@quiet
def distillation_loss(
    hidden: Array,
    weight: Array,
    teacher_hidden: Array,
    teacher_weight: Array,
    targets: Array | None = None,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    mixture: float = 0.5,
    bias: Array | None = None,
    teacher_bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    scale: float = 1.0,
    workspace: int | None = None,
) -> Array:
    """T^2 times a divergence of student and teacher at temperature T; q is the teacher's and p the student's softmax of z/T.

    forward_kl: KL(q || p). reverse_kl: KL(p || q). jensen_shannon: b KL(q || m) + (1 - b) KL(p || m), m = b q + (1 - b) p, b = mixture.
    binary_kl: sum_j KL(Bernoulli(s(z_j^q / T)) || Bernoulli(s(z_j^p / T))), s the sigmoid. binary_kl_norm: sum_j KL(Bernoulli(1/2) ||
    Bernoulli(s((z_j^p - z_j^q) / T))).

    Args:
        hidden, weight, bias: the student's: (..., D), (V, D), (V,) or None; torch tensors, or NumPy arrays for values.
        teacher_hidden, teacher_weight, teacher_bias: the teacher's: (..., E), (V, E), (V,) or None. Tensors get gradients if they ask for
            them; call under detach() or with frozen tensors otherwise.
        targets: (...) int64; only says which rows count. None: all do.
        divergence: one of the five above.
        temperature: > 0.
        mixture: b, between 0 and 1; only for jensen_shannon.
        softcap, scale: of both heads.
        workspace: bytes that the backward may use beyond the gradients; default 64 MiB.
        ignore_index, reduction: see focal_loss.
    Returns:
        A scalar, or (...) for "none", of the inputs' library; float64 for float64 inputs, else float32.
    Raises:
        ValueError: shapes do not fit, a number is out of range, divergence or reduction is unknown.
        TypeError: arrays and tensors are mixed, targets is not int64. IndexError: a label is out of range.
    Notes:
        Heads may be of different dtypes. Under torch.autocast both are taken in its dtype; without it each is taken as it is, and where
        hidden and weight of a head differ, the narrower one is widened, which copies it. Tensors are on the processor (or "meta").
        Eight products of the size of the logits where both heads get gradients, six where the teacher does not; two more for
        jensen_shannon. Sums are taken as in row_statistics, so that half-precision heads give what their widened values do, and memory
        is that of row_statistics. A class whose logits are -inf on both sides counts for nothing, and so do classes of probability below
        e^-87. Errors: see two_head_statistics.
    Source: Hinton, Vinyals and Dean 2015 (arXiv:1503.02531) for T^2; Agarwal et al. 2024, On-policy distillation (arXiv:2306.13649) for
        the mixture; Yang et al. 2024 (arXiv:2411.08937), whose code has both binary forms (without its clamp of s to [1e-8, 1 - 1e-8]).
    """
    name = "distillation_loss"
    check_choice(name, "divergence", divergence, DIVERGENCES)
    check_number(name, "temperature", temperature, "a positive number", lambda x: 0 < x < math.inf)
    share = check_mixture(name, mixture)
    heads = two_heads(
        name,
        Head(hidden, weight, bias),
        Head(teacher_hidden, teacher_weight, teacher_bias),
        TEACHER,
        targets=targets,
        ignore_index=ignore_index,
        reduction=reduction,
        softcap=softcap,
        scale=scale,
        workspace=workspace,
        temperature=_head.number(name, "temperature", temperature),
    )
    kind = "kl" if divergence in ("forward_kl", "reverse_kl") else divergence
    forward, reverse, *_ = heads.divergence(kind, share)
    return heads.reduce(temperature**2 * (reverse if divergence == "reverse_kl" else forward))


@quiet
def subset_distillation_loss(
    hidden: Array,
    weight: Array,
    teacher_hidden: Array,
    teacher_weight: Array,
    subset: Array,
    targets: Array | None = None,
    *,
    renormalize: bool = True,
    temperature: float = 1.0,
    bias: Array | None = None,
    teacher_bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """T^2 sum over j in a subset of the classes of q_j log(q_j / p_j), q the teacher's and p the student's softmax of z/T.

    Args:
        subset: (..., k) int64, the classes of each row, none twice.
        renormalize: q and p are softmaxes over the subset, so that the sum is a KL divergence; False: over all classes, as they are.
        streaming: softcap, scale, filter_eps, workspace, threads: see row_statistics; without renormalize the log-sum-exps are streamed.
        The others and what is returned and raised: see distillation_loss. IndexError too where subset is out of range.
    Notes:
        With renormalize the work is O(N k (D + E)), and none over the vocabulary.
    Source: the sum of DAC-KL (arXiv:2407.10068) over a range of the teacher's distribution, which is for the caller to choose; the
        paper trains a small network for it.
    """
    name = "subset_distillation_loss"
    student, teacher = Head(hidden, weight, bias), Head(teacher_hidden, teacher_weight, teacher_bias)
    student, teacher, targets = check_two_heads(name, student, teacher, TEACHER, targets)
    hidden, weight, _ = student
    required(name, subset=subset)
    _, subset = taken(name, hidden=hidden, subset=subset)
    subset = whole_numbers(name, "subset", subset)
    if dtype_name(subset) != "int64" or subset.ndim != hidden.ndim or subset.shape[:-1] != hidden.shape[:-1]:
        raise ValueError(
            f"{name}: subset is {dtype_name(subset)} of shape {tuple(subset.shape)}; expected int64 of {(*hidden.shape[:-1], 'k')}"
        )
    subset = library(subset).where(check_labels(name, subset, weight.shape[0], None, "subset"), subset, 0)
    check_number(name, "temperature", temperature, "a positive number", lambda x: 0 < x < math.inf)
    return _subset_divergence(
        name,
        student,
        teacher,
        subset,
        targets,
        renormalize,
        temperature,
        ignore_index,
        reduction,
        streaming,
    )


@quiet
def top_k_distillation_loss(
    hidden: Array,
    weight: Array,
    teacher_hidden: Array,
    teacher_weight: Array,
    targets: Array | None = None,
    *,
    k: int = 10,
    renormalize: bool = True,
    temperature: float = 1.0,
    bias: Array | None = None,
    teacher_bias: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    **streaming: Unpack[Streaming],
) -> Array:
    """subset_distillation_loss over the k classes of each row that the teacher holds for most probable.

    Args:
        k: 1 to V, and at most 256, as topk of row_statistics.
        The others and what is returned and raised: see subset_distillation_loss.
    Notes:
        One pass over the teacher's vocabulary, without gradient, finds the classes; with renormalize there is none over the student's.
    Source: KL-Top of Hu et al. 2025, OSTQuant (arXiv:2501.13987); renormalised on both sides as the sparse KL of Sieberling et al. 2024,
        EvoPress (arXiv:2410.14649), in its code.
    """
    name = "top_k_distillation_loss"
    student, teacher = Head(hidden, weight, bias), Head(teacher_hidden, teacher_weight, teacher_bias)
    student, teacher, targets = check_two_heads(name, student, teacher, TEACHER, targets)
    hidden, weight, _ = student
    check_number(name, "k", k, f"a whole number from 1 to {weight.shape[0]}", lambda x: isinstance(x, int) and 1 <= x <= weight.shape[0])
    check_number(name, "temperature", temperature, "a positive number", lambda x: 0 < x < math.inf)
    of_teacher, its_weight, its_bias = (None if x is None else stop_gradient(x) for x in teacher)
    rows = Rows(name, of_teacher, its_weight, None, ("topk",), bias=its_bias, reduction=reduction, prefix="teacher_", topk=k, **streaming)
    subset = library(hidden).clip(rows.statistics.topk.indices, 0, None).reshape(*hidden.shape[:-1], k)
    return _subset_divergence(
        name,
        student,
        teacher,
        subset,
        targets,
        renormalize,
        temperature,
        ignore_index,
        reduction,
        streaming,
    )


def _subset_divergence(
    name: str,
    student: Head,
    teacher: Head,
    subset: Array,
    targets: Array | None,
    renormalize: bool,
    temperature: float,
    ignore_index: int,
    reduction: str,
    streaming: Streaming,
) -> Array:
    check_reduction(name, reduction)
    check_flag(name, "renormalize", renormalize)
    ignore_index = int64(name, "ignore_index", ignore_index)
    unknown = set(streaming) - {"softcap", "scale", "filter_eps", "workspace", "threads"}
    if unknown:
        raise TypeError(f"{name}: got an unexpected argument {min(unknown)!r}")
    softcap = streaming.get("softcap")
    scale: Any = streaming.get("scale", 1.0)  # a number or a tensor
    if softcap is not None:
        check_number(name, "softcap", softcap, "a positive number or None", lambda x: 0 < x < math.inf)
    check_number(name, "scale", scale, "a finite number", lambda x: abs(x) < math.inf)
    _head.filter_bound(name, streaming.get("filter_eps"), "float32")  # checked without a use for it, too
    _head.workspace_bytes(name, streaming.get("workspace"))
    thread_count(name, streaming.get("threads"))
    if not is_torch(scale):
        scale = float(scale)
    counts = None if targets is None else check_labels(name, targets, student[1].shape[0], ignore_index)
    options: Streaming = {**streaming, "scale": scale / temperature, "softcap": None if softcap is None else softcap / temperature}
    log_probs = []
    for (hidden, weight, bias), prefix in ((student, ""), (teacher, "teacher_")):
        hidden, weight = as_autocast(hidden, weight)
        flat = hidden.reshape(-1, hidden.shape[-1])
        if counts is not None:  # a NaN in a row that does not count reaches no gradient
            flat = where(counts.reshape(-1, 1), flat)
        columns = subset.reshape(len(flat), subset.shape[-1])
        logits = gathered_logits(name, flat, weight, bias, columns, prefix + "bias") * (scale / temperature)
        if softcap is not None:
            logits = softcap / temperature * library(logits).tanh(logits / (softcap / temperature))
        if renormalize:
            log_probs.append(log_softmax(logits, 1))
        else:
            given: dict[str, Any] = {"bias": bias, "ignore_index": ignore_index, "reduction": reduction, "prefix": prefix, **options}
            rows = Rows(name, hidden, weight, targets, ("lse",), **given)
            log_probs.append(logits - rows.of("lse")[:, None])
    log_p, log_q = log_probs
    losses = temperature**2 * (library(log_q).exp(log_q) * (log_q - log_p)).sum(1)
    return reduce_losses(losses.reshape(subset.shape[:-1]), counts, reduction, log_p.dtype)
