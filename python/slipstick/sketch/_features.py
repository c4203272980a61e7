"""Random features of a kernel, made chunk by chunk: nothing but the seed is kept of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from slipstick import _core

from . import _arguments
from ._operators import sketch

Array = np.ndarray[Any, Any]

PURPOSE_PHASE = 0x72666670  # of the random stream of phases


class RandomFeatures:
    """Random Fourier features of the Gaussian kernel exp(-|x - x'|^2 / (2 length_scale^2)) (Rahimi and Recht 2007): the scalar product of two rows
    of features is that kernel, with an error of order 1 / sqrt(count).

    Args:
        columns: d of X.
        count: k, number of features.
        length_scale: above 0.
        seed: 0 to 2^64 - 1; the same seed gives the same features.
    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """

    def __init__(self, columns: int, count: int, *, length_scale: float = 1.0, seed: int = 0) -> None:
        where = "RandomFeatures"
        d, k = _arguments.positive_integer(where, "columns", columns), _arguments.positive_integer(where, "count", count)
        key, scale = _arguments.seed_of(where, seed), _arguments.non_negative(where, "length_scale", length_scale)
        if scale == 0:
            raise ValueError(f"{where}: length_scale is {scale}; expected a number above 0")
        self._map = np.sqrt(k) / scale * sketch(np.eye(d), kind="gaussian", rows=k, seed=key).T
        words = np.frombuffer(_core.random_bytes(key, PURPOSE_PHASE, 0, -(-k // 4)), np.uint32)[:k]
        self._phases = 2 * np.pi / 2**32 * words

    def __call__(self, X: Any) -> Array:  # noqa: N803
        """sqrt(2 / k) cos(X W / length_scale + phase), float64 (n, k), for X (n, d)."""
        matrix = _arguments.matrix("RandomFeatures", "X", X)
        if matrix.shape[1] != self._map.shape[0]:
            raise ValueError(f"RandomFeatures: X has {matrix.shape[1]} columns; expected {self._map.shape[0]}")
        return np.asarray(np.sqrt(2 / self._phases.size) * np.cos(matrix @ self._map + self._phases))
