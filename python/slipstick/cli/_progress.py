"""One line on stderr about long work, rewritten in place. Silent unless stderr is a terminal."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # see slipstick/__init__.py
if TYPE_CHECKING:
    from typing import Any

SILENT_SECONDS = 1.0  # shorter work needs no comfort
INTERVAL_SECONDS = 0.1
BAR_CELLS = 24


class Progress:
    """Shows how far the work on one input is.

    Args:
        label: the input's name.
        total: its bytes, or None when nobody knows.
        enabled: False for --quiet.
    """

    def __init__(self, label: str, total: int | None, enabled: bool) -> None:
        self._label = label
        self._total = total
        self._enabled = enabled and is_terminal(sys.stderr)
        self._start = time.monotonic()
        self._next = self._start + SILENT_SECONDS
        self._shown = False

    def update(self, done: int) -> None:
        if not self._enabled:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + INTERVAL_SECONDS
        self._shown = True
        text = progress_line(self._label, done, self._total, now - self._start)
        sys.stderr.write("\r\x1b[K" + text[: _columns() - 1])
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def progress_line(label: str, done: int, total: int | None, seconds: float) -> str:
    rate = f"{short_size(done / seconds)}/s" if seconds > 0 else ""
    if not total:
        return f"{label}  {short_size(done)}  {rate}"
    share = min(done / total, 1.0)
    bar = ("#" * int(share * BAR_CELLS)).ljust(BAR_CELLS, ".")
    return f"{label}  [{bar}] {share:4.0%}  {short_size(done)} of {short_size(total)}  {rate}"


def short_size(count: float) -> str:
    """ "12.3 MB": bytes in units of 1000, three digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # None or closed
        return False


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
