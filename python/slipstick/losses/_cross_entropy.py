"""Cross-entropy of a linear head, with the argument names of cut_cross_entropy (Wijmans et al. 2024, arXiv:2411.09009)."""

from __future__ import annotations

from typing import Any

from slipstick._arguments import int64, is_torch, thread_count

from . import _head

__all__ = ["linear_cross_entropy", "linear_cross_entropy_and_grad"]

_NAME = "linear_cross_entropy"
_REDUCTIONS = ("mean", "sum", "none")


def _check_options(
    function: str, e: Any, targets: Any, reduction: str, shift: int, label_smoothing: float, z_loss: float, token_weight: Any
) -> None:
    if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
        raise ValueError(f"{function}: reduction is {reduction!r}; expected one of {str(_REDUCTIONS)[1:-1]}")
    if e.ndim < 2 or tuple(e.shape[:-1]) != tuple(targets.shape):
        raise ValueError(f"{function}: e has shape {tuple(e.shape)} and targets {tuple(targets.shape)}; expected (..., width) and (...)")
    if shift and not 0 < shift < targets.shape[-1]:
        raise ValueError(f"{function}: shift is {shift}; expected 0 to {targets.shape[-1] - 1}, less than the last size of targets")
    if shift < 0:
        raise ValueError(f"{function}: shift is {shift}; expected 0 or more")
    _head.check_number(function, "label_smoothing", label_smoothing, "0 to 1", lambda x: 0 <= x <= 1)
    _head.check_number(function, "z_loss", z_loss, "a finite number", lambda x: abs(x) < float("inf"))
    if token_weight is not None and tuple(token_weight.shape) != tuple(targets.shape):
        raise ValueError(
            f"{function}: token_weight has shape {tuple(token_weight.shape)}; expected {tuple(targets.shape)}, that of targets"
        )


def _check_class_weight(function: str, class_weight: Any, vocabulary: int, may_read: bool = True) -> None:
    """may_read: a tensor that is traced has no values to look at."""
    if class_weight is None:
        return
    if tuple(class_weight.shape) != (vocabulary,):
        raise ValueError(f"{function}: class_weight has shape {tuple(class_weight.shape)}; expected {(vocabulary,)}")
    if may_read and bool((class_weight < 0).any()):
        raise ValueError(f"{function}: class_weight holds {float(class_weight.min())}; expected numbers of at least 0")


def linear_cross_entropy(
    e: Any,
    c: Any,
    targets: Any,
    bias: Any = None,
    ignore_index: int = -100,
    softcap: float | None = None,
    reduction: str = "mean",
    shift: bool | int = 0,
    return_lse: bool = False,
    filter_eps: float | str | None = None,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    class_weight: Any = None,
    token_weight: Any = None,
    return_dropped: bool = False,
    workspace: int | None = None,
    threads: int | None = None,
    process_group: Any = None,
) -> Any:
    """Cross-entropy of softmax(e @ c.T + bias) against targets, without the logits in memory.

    The loss of a row is w ((1 - s) (lse - z_y) + s (lse - mean z) + z_loss lse^2) with s = label_smoothing and
    w = class_weight[y] * token_weight; with class_weight the smoothed term weighs each class, as in torch.

    Args:
        e: (..., width) torch tensor or NumPy array of float32, bfloat16, float16 or float64: the hidden states. On CUDA see row_statistics.
        c: (vocabulary, width), same dtype: the classifier. With process_group: the classes of this rank, in the order of the ranks.
        targets: (...) int64.
        bias: (vocabulary,) or None.
        ignore_index: the target of positions to leave out; their loss is 0 and they get no gradient.
        softcap: cap of cap * tanh(z / cap), or None.
        reduction: "mean": sum of the losses over the sum of w, the count where there are no weights; NaN if that is 0. "sum". "none".
        shift: position i predicts targets[..., i + shift]; the losses of "none" and lse are those of e[..., :-shift, :], `shift` fewer.
        return_lse: give (loss, lse), lse of the shape of the losses of "none", differentiable.
        filter_eps: see row_statistics; here a class is dropped where its probability is below it. None is exact.
        label_smoothing: s from 0 to 1.
        z_loss: factor of lse^2 (Chowdhery et al. 2022, arXiv:2204.02311, section 5).
        class_weight: (vocabulary,) float of at least 0 (torch takes negative ones); not with softcap and label_smoothing together.
        token_weight: (...) float, where targets are; differentiable.
        return_dropped: give (loss, dropped), dropped of the shape of the losses of "none", float64: the probability that filter_eps dropped in
            each row and spread evenly. Known where the gradients are computed with the loss, see Notes; refused elsewhere.
        workspace, threads: see row_statistics.
        process_group: torch.distributed group whose ranks hold the classes, see above; e and targets are the same on all.
    Returns:
        The loss, float64 for float64 inputs, else float32 (bfloat16 inputs, too: torch would round the loss to bfloat16).
    Raises:
        IndexError: a target is no class. TypeError, ValueError: dtypes or shapes do not fit, an option is out of range.
    Notes:
        For "mean" and "sum" the gradients are computed with the loss where it will be differentiated: 3 products of the size of the logits,
        as with materialised ones; elsewhere, and on CUDA, 4. They are held until the backward, which scales them. The loss is the same bits whether
        autograd records it or not. Errors: see ERROR_BOUNDS. loss >= 0 for every row without z_loss and weights below 0.
    """
    shift = _head.shift_of(_NAME, shift)
    _head.check_flag(_NAME, "return_lse", return_lse)
    _head.check_flag(_NAME, "return_dropped", return_dropped)
    if process_group is not None and not is_torch(e):
        raise TypeError(f"{_NAME}: process_group with a {type(e).__name__}; expected torch tensors")
    if process_group is not None and not callable(getattr(process_group, "size", None)):
        raise TypeError(f"{_NAME}: process_group is {process_group!r}; expected a group of torch.distributed, or None")
    compute: Any
    if is_torch(e):
        from ._torch_cross_entropy import torch_linear_cross_entropy

        for name, value in (("c", c), ("targets", targets), ("class_weight", class_weight), ("token_weight", token_weight)):
            if not is_torch(value) and (value is not None or name in ("c", "targets")):
                raise TypeError(f"{_NAME}: {name} is a {type(value).__name__}; expected a torch.Tensor, as e is one")
        compute = torch_linear_cross_entropy
    else:
        import numpy as np

        from ._arrays import quiet
        from ._numpy import plain_array

        compute = quiet(_numpy_linear_cross_entropy)

        e, c, targets = plain_array(_NAME, "e", e), plain_array(_NAME, "c", c), plain_array(_NAME, "targets", targets)
        token_weight, class_weight = (
            None if x is None else plain_array(_NAME, name, x, np.float64)
            for name, x in (("token_weight", token_weight), ("class_weight", class_weight))
        )
    _check_options(_NAME, e, targets, reduction, shift, label_smoothing, z_loss, token_weight)
    options = {"process_group": process_group} if process_group is not None else {}
    return compute(
        e,
        c,
        targets,
        bias,
        ignore_index=int64(_NAME, "ignore_index", ignore_index),
        softcap=softcap,
        reduction=reduction,
        shift=shift,
        label_smoothing=_head.number(_NAME, "label_smoothing", label_smoothing),
        z_loss=_head.number(_NAME, "z_loss", z_loss),
        class_weight=class_weight,
        token_weight=token_weight,
        return_lse=return_lse,
        filter_eps=filter_eps,
        return_dropped=return_dropped,
        workspace=_head.workspace_bytes(_NAME, workspace, e),
        threads=thread_count(_NAME, threads),
        **options,
    )


def _numpy_linear_cross_entropy(
    e: Any,
    c: Any,
    targets: Any,
    bias: Any,
    *,
    ignore_index: int,
    softcap: float | None,
    reduction: str,
    shift: int,
    label_smoothing: float,
    z_loss: float,
    class_weight: Any,
    token_weight: Any,
    return_lse: bool,
    filter_eps: Any,
    return_dropped: bool,
    workspace: int,
    threads: int,
) -> Any:
    import numpy as np

    if return_dropped:
        raise ValueError(f"{_NAME}: return_dropped of NumPy arrays; expected linear_cross_entropy_and_grad, which has the gradients")

    from ._numpy import NumpyHead, numpy_statistics, plain_array
    from ._traced import untraced

    rows, labels, weights, shape = _shifted(e, targets, token_weight, shift)
    map_and_cap = _head.map_name(_NAME, softcap, None)
    head = NumpyHead(_NAME, untraced(rows), untraced(c), labels, untraced(bias), 1.0, map_and_cap, ignore_index, ("e", "c"))
    _check_class_weight(_NAME, class_weight, head.vocabulary)
    parts = ("target", "lse", "mean") if label_smoothing and class_weight is None else ("target", "lse")
    found = numpy_statistics(
        rows, c, labels, bias, parts=parts, topk=0, map_and_cap=map_and_cap, scale=1.0, ignore_index=ignore_index,
        filter_eps=filter_eps, workspace=workspace, threads=threads, kind=np.float64, function=_NAME,
    )  # fmt: skip
    target, lse = found["target"], found["lse"]
    counts = labels != ignore_index
    factor = np.where(counts, 1.0 if weights is None else weights, 0.0)
    of_label = np.ones(len(labels)) if class_weight is None else class_weight[np.where(counts, labels, 0)]
    losses = (1 - label_smoothing) * of_label * (lse - target) + of_label * z_loss * lse**2
    if label_smoothing and class_weight is None:
        losses = losses + label_smoothing * (lse - found["mean"])
    elif label_smoothing:
        if softcap is not None:
            raise ValueError(f"{_NAME}: class_weight with softcap and label_smoothing; expected at most two of them")
        average = rows.astype(np.float64) @ (class_weight @ c.astype(np.float64))
        if bias is not None:
            average = average + plain_array(_NAME, "bias", bias, np.float64) @ class_weight
        losses = losses + label_smoothing / head.vocabulary * (class_weight.sum() * lse - average)
    losses = np.where(counts, losses * factor, 0.0)
    if reduction == "none":
        loss = losses.reshape(shape).astype(head.sum_type)
    else:
        total = losses.sum()
        loss = (total / (factor * of_label).sum() if reduction == "mean" else total).astype(head.sum_type)
    return (loss, lse.reshape(shape).astype(head.sum_type)) if return_lse else loss


def _shifted(e: Any, targets: Any, token_weight: Any, shift: int) -> tuple[Any, Any, Any, Any]:
    """Flat rows of hidden states, their targets, their weights, and the shape of what each row has."""
    if shift:
        e, targets = e[..., :-shift, :], targets[..., shift:]
        token_weight = None if token_weight is None else token_weight[..., shift:]
    shape, targets = targets.shape, targets.reshape(-1)
    return e.reshape(len(targets), e.shape[-1]), targets, None if token_weight is None else token_weight.reshape(-1), shape


def linear_cross_entropy_and_grad(
    e: Any,
    c: Any,
    targets: Any,
    bias: Any = None,
    ignore_index: int = -100,
    softcap: float | None = None,
    reduction: str = "mean",
    shift: bool | int = 0,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    token_weight: Any = None,
    filter_eps: float | str | None = None,
    return_dropped: bool = False,
    workspace: int | None = None,
    threads: int | None = None,
) -> tuple[Any, ...]:
    """linear_cross_entropy of NumPy arrays and its gradients, for training without torch.

    Args:
        e, c, targets, bias, ...: as in linear_cross_entropy, NumPy arrays.
        reduction: "mean" or "sum".
    Returns:
        (loss, gradient by e, by c, by bias), in the shapes and dtypes of these; that of bias in the loss's dtype, None without bias. With
        return_dropped a fifth, see there.
    Raises:
        As linear_cross_entropy; TypeError for torch tensors, which have autograd.
    """
    import numpy as np

    from ._numpy import NumpyHead, numpy_cross_entropy, plain_array

    function = "linear_cross_entropy_and_grad"
    if is_torch(e):
        raise TypeError(f"{function}: e is a torch.Tensor; expected a NumPy array (for tensors: linear_cross_entropy and backward)")
    _head.check_flag(function, "return_dropped", return_dropped)
    if isinstance(reduction, str) and reduction == "none":
        raise ValueError(f"{function}: reduction is 'none'; expected 'mean' or 'sum'")
    shift = _head.shift_of(function, shift)
    ignore_index = int64(function, "ignore_index", ignore_index)
    e, targets = plain_array(function, "e", e), plain_array(function, "targets", targets)
    token_weight = None if token_weight is None else plain_array(function, "token_weight", token_weight, np.float64)
    _check_options(function, e, targets, reduction, shift, label_smoothing, z_loss, token_weight)
    rows, labels, weights, _ = _shifted(e, targets, token_weight, shift)
    head = NumpyHead(function, rows, c, labels, bias, 1.0, _head.map_name(function, softcap, None), ignore_index, ("e", "c"))
    dropped = np.empty(targets.shape if not shift else (*targets.shape[:-1], targets.shape[-1] - shift)) if return_dropped else None
    loss, grad_rows, grad_c, grad_bias = numpy_cross_entropy(
        head,
        weights,
        reduction == "mean",
        _head.number(function, "label_smoothing", label_smoothing),
        _head.number(function, "z_loss", z_loss),
        _head.workspace_bytes(function, workspace),
        _head.filter_bound(function, filter_eps, head.hidden.dtype.name),
        thread_count(function, threads),
        dropped,
    )
    grad_e = grad_rows.reshape(e.shape) if not shift else np.zeros(e.shape, e.dtype)
    if shift:
        grad_e[..., :-shift, :] = grad_rows.reshape(*e.shape[:-2], e.shape[-2] - shift, e.shape[-1])
    gradients = head.sum_type.type(loss), grad_e, grad_c, grad_bias
    return gradients if dropped is None else (*gradients, dropped)
