"""Ends on SIGINT, SIGTERM and SIGHUP like any program, but after removing what was half written.

Imported where something is written or waited for; what only reads files leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_wakeup: int | None = None  # readable once a signal has arrived, while unwinding() runs


class Stopped(BaseException):
    """Unwinds the stack, so that every open output is discarded. Not an Exception: nobody may catch it by accident."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def wait_readable(file: Any) -> None:
    """Waits until a read of a pipe or a terminal would not block, and lets a signal that came at any moment have its say.

    A read alone is not enough: a signal that arrives after Python last looked and before the system call blocks would
    be heeded only when the input moves.
    """
    if not hasattr(select, "poll"):
        return
    poll, descriptor = select.poll(), file.fileno()
    for source in (descriptor, _wakeup):
        if source is not None:
            poll.register(source, select.POLLIN)
    while descriptor not in (ready := dict(poll.poll())):
        for source in ready:
            os.read(source, 4096)  # a handler that raises has done so by now; another one let us go on


@contextlib.contextmanager
def _waking() -> Iterator[None]:
    global _wakeup
    _wakeup, writing = os.pipe()
    os.set_blocking(writing, False)
    previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writing)
        os.close(_wakeup)
        _wakeup = None


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Turns signals into Stopped, and at the end dies of the signal, so that shells and supervisors see the truth."""
    previous: dict[int, Any] = {}
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs stay deaf
                previous[number] = signal.signal(number, _stop)
        main = True
    except ValueError:  # only the main thread is told of signals; to ask threading which one this is costs its import
        main = False
    if not main:
        yield
        return
    try:
        with _waking():
            yield
    except Stopped as stopped:
        die_of(stopped.number)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def die_of(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _stop(number: int, frame: Any) -> None:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the tidying
    raise Stopped(number)
