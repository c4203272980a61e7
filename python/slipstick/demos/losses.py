"""Cross-entropy of a language model's head, loss and gradients, with slipstick and with torch's own functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ._report import Report, require, short, timed

ROWS, WIDTH, VOCABULARY = 1024, 256, 32_768


def run() -> Report:
    torch = require("torch", "slipstick[torch]")
    from torch.nn import functional

    from slipstick import losses

    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, generator=generator)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator) / WIDTH**0.5
    targets = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    ways: list[tuple[str, Callable[[Any, Any], Any]]] = [
        ("slipstick", lambda x, w: losses.linear_cross_entropy(x, w, targets)),
        ("torch", lambda x, w: functional.cross_entropy(x @ w.T, targets)),
    ]
    rows, gradients = [], []
    for name, loss_of in ways:
        x, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()

        def forward_and_backward(loss_of: Callable[[Any, Any], Any] = loss_of, x: Any = x, w: Any = w) -> Any:
            loss = loss_of(x, w)
            loss.backward()
            return loss.detach()

        before = _reset_peak()
        loss, seconds = timed(forward_and_backward)
        memory = short((_peak() - before) / 1e6) if before else "?"
        rows.append((name, short(seconds), memory, f"{float(loss):.6f}"))
        gradients.append(w.grad)
    difference = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    return Report(
        title=f"losses: cross-entropy of {ROWS:,} tokens over {VOCABULARY:,} classes, width {WIDTH}, loss and gradients.",
        head=("", "CPU s", "MB more", "loss"),
        rows=rows,
        meaning=f"slipstick never holds the {ROWS:,} x {VOCABULARY:,} logits; the two gradients of the weight differ by {difference:.0e} of their"
        f" size. MB more: peak memory during the call; the gradient of the weight alone is {short(weight.nbytes / 1e6)}.",
        command="loss = losses.linear_cross_entropy(\n    hidden, weight, targets)",
    )


def _reset_peak() -> int:
    """Bytes that this process holds now, after its peak was set back to that; 0 where the system does not let us."""
    with contextlib.suppress(OSError):
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # Linux: resets VmHWM
        return _status("VmRSS")
    return 0


def _peak() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(key + ":"))
