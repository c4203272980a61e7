"""Random features of a kernel, made chunk by chunk: nothing but the seed is kept of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from slipstick import _core

from . import _arguments
from ._operators import _applied

Array = np.ndarray[Any, Any]

PURPOSE_PHASE = 0x72666670  # of the random stream of phases
PURPOSE_RADIUS = 0x72666272  # of that of lengths of bandlimited frequencies


class RandomFeatures:
    """Random Fourier features sqrt(2 / k) cos(x W + phase): the scalar product of two rows of features is a kernel of x - x', with an error of order
    1 / sqrt(count).

    Without `bandlimit` that is the Gaussian kernel exp(-|x - x'|^2 / (2 length_scale^2)) (Rahimi and Recht 2007). With it the columns of W are uniform in the ball of
    that radius: bandlimited random weights, which can learn what of a function lies inside the band and nothing of what lies outside, however many
    they are (Li, Sonoda, Cao, Wang and Liang 2023).

    Args:
        columns: d of X.
        count: k, number of features.
        length_scale: above 0; for the Gaussian kernel.
        bandlimit: None, or the largest length of a frequency, above 0.
        seed: 0 to 2^64 - 1; the same seed gives the same features.
    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """

    def __init__(self, columns: int, count: int, *, length_scale: float = 1.0, bandlimit: float | None = None, seed: int = 0) -> None:
        where = "RandomFeatures"
        d, k = _arguments.positive_integer(where, "columns", columns), _arguments.positive_integer(where, "count", count)
        key = _arguments.seed_of(where, seed)
        scale = _arguments.positive(where, "length_scale", length_scale)
        radius = None if bandlimit is None else _arguments.positive(where, "bandlimit", bandlimit)
        normal = _applied(where, "gaussian", key, 1, np.eye(d), None, 0, k, 0).T
        if radius is None:
            self._map = np.sqrt(k) / scale * normal
        else:
            lengths = radius * ((_words(key, PURPOSE_RADIUS, k) + 0.5) / 2**32) ** (1 / d)
            self._map = normal * (lengths / np.linalg.norm(normal, axis=0))
        self._phases = 2 * np.pi / 2**32 * _words(key, PURPOSE_PHASE, k)

    def __call__(self, X: Any) -> Array:  # noqa: N803
        """sqrt(2 / k) cos(X W + phase), float64 (n, k), for X (n, d)."""
        matrix = _arguments.matrix("RandomFeatures", "X", X)
        if matrix.shape[1] != self._map.shape[0]:
            raise ValueError(f"RandomFeatures: X has {matrix.shape[1]} columns; expected {self._map.shape[0]}")
        return np.asarray(np.sqrt(2 / self._phases.size) * np.cos(matrix @ self._map + self._phases))


def _words(seed: int, purpose: int, count: int) -> Array:
    return np.frombuffer(_core.random_bytes(seed, purpose, 0, -(-count // 4)), np.uint32)[:count]
