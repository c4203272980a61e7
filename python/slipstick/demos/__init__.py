"""Demonstrations, one module a room: under a minute each, on data that the machine or a dependency has, beside what one would use today.

A module NAME has run() -> Report. Only that of a room that is asked for is imported.
"""

from __future__ import annotations

import importlib

from ._report import WIDTH, MissingError, Report

ROOMS = ("logs", "losses", "lowbit", "sketch")

__all__ = ["ROOMS", "WIDTH", "MissingError", "Report", "run"]


def run(room: str) -> Report:
    """What the demonstration of a room measured, just now, on this machine.

    Args:
        room: one of ROOMS.
    Raises:
        ValueError: room is not one of them.
        MissingError: a package that the demonstration needs is not installed; the message says which.
    """
    if room not in ROOMS:
        raise ValueError(f"run: room is {room!r}; expected one of {', '.join(ROOMS)}")
    report: Report = importlib.import_module(f"slipstick.demos.{room}").run()
    return report
