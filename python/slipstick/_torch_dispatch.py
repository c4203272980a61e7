"""When torch's dispatcher can be passed by: its way to an operator that is written in Python takes 0.05 ms, as much as the work on a small tensor."""

from __future__ import annotations

from typing import Any

import torch

_PLAIN = (torch.Tensor, torch.nn.Parameter)


def needs_dispatcher(arguments: tuple[Any, ...]) -> bool:
    """Whether the operator must be called: somebody looks on (a mode, a trace, the profiler), or a tensor is no plain one of the processor. Else its
    kernel may be. Not to be asked while a program is compiled or under torch.func."""
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return True
    if torch._C._get_tracing_state() or torch._C._autograd._profiler_enabled():
        return True
    return any(isinstance(x, torch.Tensor) and not _is_plain(x) for x in arguments)


def _is_plain(x: torch.Tensor) -> bool:
    return type(x) in _PLAIN and x.is_cpu and not x.is_neg() and not x._is_zerotensor()


def records_gradient(arguments: tuple[Any, ...]) -> bool:
    return torch.is_grad_enabled() and any(isinstance(x, torch.Tensor) and x.requires_grad for x in arguments)
