"""Oracles of the sketch room's tests: the exact Karlson-Walden estimate, and seeded least-squares problems of many kinds."""

from __future__ import annotations

import numpy as np

EPS = np.finfo(np.float64).eps


def exact_backward_error(A, b, x):  # noqa: N803
    """Relative to |A|_F, with theta = |A|_F / |b|: residual and gradient in long double, the spectrum of A itself."""
    A, b, x = near_one(A, b, x)  # noqa: N806
    wide = np.longdouble
    r = b.astype(wide) - A.astype(wide) @ x.astype(wide)
    gradient = (A.astype(wide).T @ r).astype(np.float64)
    _, s, vt = np.linalg.svd(A, full_matrices=False)
    norm, b_norm, x_norm = np.linalg.norm(A), np.linalg.norm(b), np.linalg.norm(x)
    if norm == 0 or (b_norm == 0 and x_norm == 0):
        return 0.0
    theta = norm / b_norm if b_norm else np.inf
    factor = 1 / x_norm**2 if b_norm == 0 else theta**2 / (1 + (theta * x_norm) ** 2)
    spectrum = s**2 + factor * float(r @ r)
    projected = vt @ gradient
    terms = np.divide(projected**2, spectrum, out=np.zeros_like(spectrum), where=projected != 0)
    return float(np.sqrt(factor * terms.sum()) / norm)


def near_one(A, b, x):  # noqa: N803
    """The same problem and solution with A and b scaled by powers of two, so that no square overflows."""
    of_a, of_b = (np.frexp(np.abs(part).max(initial=0.0))[1] for part in (A, b))
    return np.ldexp(A, -of_a), np.ldexp(b, -of_b), np.ldexp(x, of_a - of_b)


def householder_qr(A, b):  # noqa: N803
    """The solution of full rank by LAPACK's QR of A."""
    q, r = np.linalg.qr(A)
    return np.linalg.solve(r, q.T @ b)


def with_condition(random, n, d, condition):
    u = np.linalg.qr(random.standard_normal((n, d)))[0]
    v = np.linalg.qr(random.standard_normal((d, d)))[0]
    return (u * np.geomspace(1, 1 / condition, d)) @ v.T


def full_rank_problem(seed):
    """(A, b) of full column rank: random, coherent or graded rows, graded columns, spikes; conditions to 1e14; residuals from 0 to 1."""
    random = np.random.default_rng(seed)
    d = int(random.integers(1, 13))
    n = d + int(random.integers(1, 300))
    condition = 10.0 ** float(random.choice([0, 2, 5, 7, 9, 12, 14])) if d > 1 else 1.0
    A = with_condition(random, n, d, condition)  # noqa: N806
    kind = seed % 6
    if kind == 1 and condition < 1e8:  # coherent: a few rows hold nearly all
        A[random.choice(n, size=min(d, n), replace=False)] *= 1e4
    elif kind == 2 and condition < 1e8:  # graded rows
        A = A * np.geomspace(1, 1e-6, n)[random.permutation(n), None]  # noqa: N806
    elif kind == 3:  # graded columns
        A = A * 10.0 ** random.uniform(-8, 8, size=d)  # noqa: N806
    elif kind == 4:  # identity over zeros, with spikes in b
        A = np.zeros((n, d))  # noqa: N806
        A[:d] = np.diag(random.uniform(0.5, 2, size=d))
    elif kind == 5:  # a power of ten far from 1
        A = A * 10.0 ** float(random.choice([-150, -100, -30, 30, 100, 150]))  # noqa: N806
    x = random.standard_normal(d) / np.maximum(np.linalg.norm(A, axis=0), 1e-300)
    noise = random.standard_normal(n) * float(random.choice([0, 1e-10, 1e-3, 1])) / np.sqrt(n)
    return A, A @ x + noise


def deficient_problem(seed):
    """(A, b, rank): duplicated, zero and dependent columns."""
    random = np.random.default_rng(seed)
    rank = int(random.integers(1, 8))
    d = rank + int(random.integers(1, 5))
    n = d + int(random.integers(0, 200))
    A = random.standard_normal((n, rank))  # noqa: N806
    kind = seed % 3
    if kind == 0:
        more = A[:, random.integers(0, rank, size=d - rank)]
    elif kind == 1:
        more = np.zeros((n, d - rank))
    else:
        more = A @ random.standard_normal((rank, d - rank))
    A = np.hstack([A, more])[:, random.permutation(d)]  # noqa: N806
    return A, random.standard_normal(n), rank
