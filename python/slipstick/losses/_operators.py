"""How operators of slipstick.losses are registered and called: kernel, fake, reverse-mode derivative and vmap of each.

Every one is differentiable once: a gradient of a gradient and a forward-mode derivative are refused, never 0.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd import forward_ad

from slipstick._torch_dispatch import needs_dispatcher, records_gradient

_LIBRARY = torch.library.Library("slipstick", "FRAGMENT")
ANY_DEVICE = "CompositeExplicitAutograd"  # the key of kernels that are torch code


def _refuse(ctx: Any, *gradients: Any) -> Any:
    raise RuntimeError(
        "slipstick.losses: a gradient of a gradient is asked for; expected one backward, as its statistics are differentiable once"
    )


def _refuse_forward_mode(*arguments: Any) -> Any:
    raise NotImplementedError(
        "slipstick.losses: a forward-mode derivative is asked for (torch.func.jvp, jacfwd, hessian or a dual tensor); expected reverse mode, "
        "as statistics have no other"
    )


def _nothing_to_keep(ctx: Any, inputs: Any, output: Any) -> None:
    pass


def _loop_over_batch(op: Any, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    """vmap by a loop: each head is large enough to keep the processor busy."""

    def one(i: int) -> list[Any]:
        return [x.select(dim, i) if isinstance(dim, int) else x for x, dim in zip(arguments, in_dims, strict=True)]

    results = [op(*one(i)) for i in range(info.batch_size)]
    if isinstance(results[0], torch.Tensor):
        return torch.stack(results), 0
    stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


_KERNELS: dict[str, Callable[..., Any]] = {}  # on the processor
_FUNCTIONS: dict[str, type[torch.autograd.Function]] = {}  # for torch.func
_EAGER_FUNCTIONS: dict[str, type[torch.autograd.Function]] = {}


@contextlib.contextmanager
def autograd_in_kernel() -> Iterator[None]:
    """A kernel runs below autograd. torch.func brings its own, but keeps a graph for a second derivative, twice the memory."""
    with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.AutogradFunctionality, False), torch.enable_grad():
        yield


def _refuse_tangents(arguments: tuple[Any, ...]) -> None:
    """Autograd of an operator drops the tangents of inputs that ask for no gradient, in silence."""
    if forward_ad._current_level < 0:
        return
    guard, key = torch._C._SetExcludeDispatchKeyGuard, torch._C.DispatchKey
    with autograd_in_kernel(), guard(key.ADInplaceOrView, False):
        if any(isinstance(x, torch.Tensor) and forward_ad.unpack_dual(x).tangent is not None for x in arguments):
            _refuse_forward_mode()


def add_kernel(name: str, kernel: Any, key: str) -> None:
    """A kernel of an operator under a dispatch key."""

    def checked_kernel(*arguments: Any) -> Any:
        _refuse_tangents(arguments)  # of a compiled program, which does not come by call()
        return kernel(*arguments)

    _LIBRARY.impl(name, checked_kernel, key)


def register(schema: str, kernel: Any, fake: Any, setup: Any = _nothing_to_keep, derivative: Any = _refuse, *, key: str = "CPU") -> None:
    """Makes an operator of the house, its kernel under a dispatch key; without a derivative, a gradient by its inputs is refused."""
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    add_kernel(name, kernel, key)
    _KERNELS[name] = kernel
    torch.library.register_fake(f"slipstick::{name}", fake, lib=_LIBRARY)
    torch.library.register_autograd(f"slipstick::{name}", derivative, setup_context=setup, lib=_LIBRARY)
    op = getattr(torch.ops.slipstick, name)
    loop = functools.partial(_loop_over_batch, op)
    if hasattr(torch.library, "register_vmap"):
        torch.library.register_vmap(f"slipstick::{name}", loop, lib=_LIBRARY)
    # torch.func.grad does not go through the autograd of an operator, but through that of a Function.
    members = {
        "forward": op,
        "setup_context": setup,
        "backward": derivative,
        "jvp": _refuse_forward_mode,
        "vmap": functools.partial(_loop_over_batch, functools.partial(call, name)),
    }
    _FUNCTIONS[name] = type(f"_{name}", (torch.autograd.Function,), {member: staticmethod(value) for member, value in members.items()})

    def forward(ctx: Any, *arguments: Any) -> Any:
        output = _kernel(name, arguments)(*arguments)
        setup(ctx, arguments, output)
        return output

    members = {"forward": forward, "backward": derivative, "jvp": _refuse_forward_mode}
    _EAGER_FUNCTIONS[name] = type(f"_eager_{name}", (torch.autograd.Function,), {each: staticmethod(f) for each, f in members.items()})


def call(name: str, *arguments: Any) -> Any:
    """The operator of that name; under torch.func, its autograd Function. Where autograd records, a Function, too, as that of an operator spends
    0.1 ms on its schema."""
    if not torch.compiler.is_compiling():
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return _FUNCTIONS[name].apply(*arguments)
        _refuse_tangents(arguments)
        if records_gradient(arguments):
            return _EAGER_FUNCTIONS[name].apply(*arguments)
        return _kernel(name, arguments)(*arguments)
    return getattr(torch.ops.slipstick, name)(*arguments)


def _kernel(name: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(torch.ops.slipstick, name) if needs_dispatcher(arguments) else _KERNELS[name]
