"""Solves a tall least-squares problem with slipstick, with NumPy and by the normal equations, and says how far each is off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from slipstick import sketch

from ._report import Report, short, timed

ROWS, COLUMNS = 200_000, 100
CONDITION = 1e6


def run() -> Report:
    random = np.random.default_rng(0)
    # Columns of falling size in a mixed basis: the condition number is about CONDITION and no scaling of columns repairs it.
    mixing = np.linalg.qr(random.standard_normal((COLUMNS, COLUMNS)))[0] * np.geomspace(1, 1 / CONDITION, COLUMNS)
    a = random.standard_normal((ROWS, COLUMNS)) @ mixing @ np.linalg.qr(random.standard_normal((COLUMNS, COLUMNS)))[0]
    truth = random.standard_normal(COLUMNS)
    b = a @ truth
    solvers: list[tuple[str, Callable[[], Any]]] = [
        ("slipstick lstsq", lambda: sketch.lstsq(a, b)),
        ("numpy lstsq", lambda: np.linalg.lstsq(a, b, rcond=None)[0]),
        ("normal equations", lambda: np.linalg.solve(a.T @ a, a.T @ b)),
    ]
    rows, claim = [], ""
    for name, solve in solvers:
        result, seconds = timed(solve)
        x = getattr(result, "x", result)
        rows.append((name, short(seconds), f"{np.linalg.norm(x - truth) / np.linalg.norm(truth):.1e}"))
        if isinstance(result, sketch.LstsqResult):
            claim = f"method {result.method}, backward error {result.backward_error:.1e}, " + (
                "certified" if result.certified else "not certified"
            )
    return Report(
        title=f"sketch: least squares with {ROWS:,} rows and {COLUMNS} columns of condition {CONDITION:.0e}.",
        head=("", "CPU s", "error of x"),
        rows=rows,
        meaning=f"slipstick said of its answer: {claim}. The error is relative to the solution that the data were made from;"
        " the normal equations lose half of the digits without a word.",
        command="result = sketch.lstsq(A, b)",
    )
