"""Least squares on tall data in about the time it takes to read it, with a certificate that says when to trust the answer.

>>> import numpy as np
>>> from slipstick import sketch
>>> random = np.random.default_rng(0)
>>> A = random.standard_normal((20_000, 20))
>>> result = sketch.lstsq(A, A @ np.ones(20) + random.standard_normal(20_000))
>>> result.certified, result.method, bool(abs(result.x - 1).max() < 0.05)
(True, 'gram', True)

`sketch` projects the rows of a matrix at random, `lstsq` solves and certifies, `sketch_and_solve` gives a few digits with error bars in one
read, `ridge_path` solves many penalties at once, and `SketchedLeastSquares` takes rows in chunks, merges and travels. `NaiveBayesHead` and `LogisticHead`
classify features that are streamed, as those of `RandomFeatures`, for linear evaluation. Data may be float32 or float64; sums are always in float64.
"""

from __future__ import annotations

from ._features import RandomFeatures
from ._heads import LogisticHead, NaiveBayesHead
from ._lstsq import METHODS, LstsqResult, lstsq
from ._operators import KINDS, kronecker_sketch, sketch
from ._ridge_path import RidgePath, ridge_path
from ._risk import FeatureRisk, random_feature_risk
from ._sketch_and_solve import SketchedSolution, sketch_and_solve
from ._sources import ArrayChunks, ArrowChunks, NpyChunks
from ._streaming import SketchedLeastSquares

__all__ = [
    "KINDS",
    "METHODS",
    "ArrayChunks",
    "ArrowChunks",
    "FeatureRisk",
    "LogisticHead",
    "LstsqResult",
    "NaiveBayesHead",
    "NpyChunks",
    "RandomFeatures",
    "RidgePath",
    "SketchedLeastSquares",
    "SketchedSolution",
    "kronecker_sketch",
    "lstsq",
    "random_feature_risk",
    "ridge_path",
    "sketch",
    "sketch_and_solve",
]
