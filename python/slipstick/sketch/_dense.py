"""Small dense work on d x d matrices, by LAPACK through SciPy, which is imported at the first call.

Columns are brought to norms in [1, 2) by powers of two first, which rounds nothing: the condition that limits a method is that of the matrix so
scaled (van der Sluis 1969).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from . import _blas

Array = np.ndarray[Any, Any]


def column_exponents(norms: Array) -> Array:
    """Integers e with norms / 2^e in [1, 2); 0 for zero columns."""
    return np.where(norms > 0, np.frexp(norms)[1] - 1, 0)


def column_norms(matrix: Array) -> Array:
    """Euclidean norms of the columns; no square overflows or underflows."""
    exponents = column_exponents(np.abs(matrix).max(axis=0, initial=0.0))
    return np.ldexp(np.linalg.norm(np.ldexp(matrix, -exponents), axis=0), exponents)


def triangular_solve(r: Array, right: Array, *, transposed: bool = False) -> Array:
    """r^-1 right, or r^-T right, for an upper triangular r that has no zero on its diagonal."""
    from scipy.linalg import lapack

    if r.size == 0:  # LAPACK complains of a leading dimension of 0 on the standard error
        return np.array(right)
    with _blas.one_thread(r.shape[1]):
        solved, _ = lapack.dtrtrs(r, right, lower=0, trans=int(transposed))
    return np.asarray(solved)


def triangular_inverse(r: Array) -> Array | None:
    """r^-1 for an upper triangular r; None if it is singular."""
    from scipy.linalg import lapack

    with _blas.one_thread(r.shape[1]):
        inverse, info = lapack.dtrtri(r, lower=0)
    return np.triu(inverse) if info == 0 and np.isfinite(inverse).all() else None


def cholesky(gram: Array) -> Array | None:
    """The upper triangular R with R^T R = gram; None if gram is not positive definite to working precision."""
    from scipy.linalg import lapack

    with _blas.one_thread(gram.shape[1]):
        r, info = lapack.dpotrf(gram, lower=0, clean=1)
    return np.asarray(r) if info == 0 else None


def scaled_cholesky(gram: Array) -> tuple[Array, Array] | None:
    """R and exponents e with (R 2^e)^T (R 2^e) = gram, the columns of R of norms in [1, 2); None if gram is not positive definite."""
    exponents = column_exponents(np.sqrt(np.diagonal(gram)))
    r = cholesky(np.ldexp(np.ldexp(gram, -exponents[:, None]), -exponents))
    return None if r is None else (r, exponents)


def singular_values(matrix: Array) -> Array:
    from scipy.linalg import svdvals

    with _blas.one_thread(min(matrix.shape)):
        return np.asarray(svdvals(matrix, check_finite=False))


def svd(matrix: Array) -> tuple[Array, Array, Array]:
    """U, s, V^T. Where the divide-and-conquer driver does not converge, the slower one of QR iterations does."""
    from scipy.linalg import LinAlgError
    from scipy.linalg import svd as lapack_svd

    with _blas.one_thread(min(matrix.shape)):
        try:
            return lapack_svd(matrix, full_matrices=False, check_finite=False)
        except LinAlgError:
            return lapack_svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesvd")


def condition_of(values: Array) -> float:
    """Largest over smallest of singular values in falling order; infinity for a zero one, 1 for none."""
    if values.size == 0:
        return 1.0
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")


def triangular_factor(blocks: Iterable[Array], columns: int) -> Array:
    """The R factor, (min(rows, columns), columns), of all blocks of rows one under the other, by Householder reflections.

    Each block is eliminated against the R so far (the sequential TSQR of Demmel, Grigori, Hoemmen and Langou 2012, arXiv:0808.2664), so that
    only one block is in memory; as stable as Householder QR of the whole.
    """
    from scipy.linalg import lapack

    r = np.zeros((0, columns), order="F")
    for block in blocks:
        stacked = np.asfortranarray(np.concatenate((r, block)))
        if stacked.shape[0] == 0 or columns == 0:
            continue
        with _blas.one_thread(columns):
            factored, _, _, _ = lapack.dgeqrf(stacked, lwork=max(1, 32 * columns), overwrite_a=1)
        r = np.triu(factored[:columns])
    return r
