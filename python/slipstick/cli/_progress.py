"""One line on stderr about long work, rewritten in place. Silent unless stderr is a terminal."""

from __future__ import annotations

import sys
import time

from ._messages import columns, is_terminal

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
        width = columns(sys.stderr, 80) - 1  # a full line would move the cursor to the next
        text = progress_line(self._label, done, self._total, now - self._start, width)
        sys.stderr.write("\r\x1b[K" + text)
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def progress_line(label: str, done: int, total: int | None, seconds: float, width: int) -> str:
    """Label, bar and figures in at most width characters; the bar goes before the figures do, and the label is cut in front."""
    rate = f"{short_size(done / seconds)}/s" if seconds > 0 else ""
    if not total:
        figures = f"  {short_size(done)}  {rate}"
    else:
        share = min(done / total, 1.0)
        bar = "[" + ("#" * int(share * BAR_CELLS)).ljust(BAR_CELLS, ".") + "] "
        figures = f"{share:4.0%}  {short_size(done)} of {short_size(total)}  {rate}"
        figures = f"  {bar}{figures}" if len(f"{label}  {bar}{figures}") <= width else f"  {figures}"
    room = max(width - len(figures), 0)
    return (label[max(len(label) - room, 0) :] + figures)[:width]


def short_size(count: float) -> str:
    """ "12.3 MB": bytes in units of 1000, three digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
