# Contract: small factorisations run on one thread of SciPy's OpenBLAS, large ones on all, and the number is what it was afterwards. Oracle: threadpoolctl.
from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from slipstick import sketch
from slipstick.sketch import _blas, _dense

threadpoolctl = pytest.importorskip("threadpoolctl")  # comes with scikit-learn


def threads_of_scipy():
    import scipy.linalg.cython_lapack  # noqa: F401

    found = [each["num_threads"] for each in threadpoolctl.threadpool_info() if "scipy.libs" in each["filepath"]]
    if not found:
        pytest.skip("SciPy has no OpenBLAS of its own")
    return found[0]


@pytest.fixture
def three_threads():
    threads_of_scipy()
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        if threads_of_scipy() != 3:
            pytest.skip("OpenBLAS was built for fewer threads")
        yield


def test_small_matrices_have_one_thread_and_large_ones_all(three_threads):
    with _blas.one_thread(_blas.MOST_COLUMNS):
        assert threads_of_scipy() == 1
        with _blas.one_thread(3):
            assert threads_of_scipy() == 1
        assert threads_of_scipy() == 1
    assert threads_of_scipy() == 3
    with _blas.one_thread(_blas.MOST_COLUMNS + 1):
        assert threads_of_scipy() == 3


def test_the_number_comes_back_after_an_error_and_the_last_of_several_threads(three_threads):
    with pytest.raises(ZeroDivisionError), _blas.one_thread(3):
        raise ZeroDivisionError
    assert threads_of_scipy() == 3
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with _blas.one_thread(3):
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    with _blas.one_thread(3):
        other.start()
        inside.wait(10)
    assert threads_of_scipy() == 1  # the other thread is still at work
    leave.set()
    other.join()
    assert threads_of_scipy() == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_inside_has_all_threads_again(three_threads):
    read, _ = _blas._controls()
    with _blas.one_thread(3):
        child = os.fork()
        if child == 0:
            outside = read() == 3
            with _blas.one_thread(3):
                inside = read() == 1
            os._exit(0 if outside and inside and read() == 3 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert threads_of_scipy() == 1


def test_the_fallback_factors_on_one_thread(three_threads, monkeypatch):
    seen = []
    factor = _dense.triangular_factor

    def watched(blocks, columns):
        def watching():
            for block in blocks:
                seen.append(threads_of_scipy())
                yield block

        return factor(watching(), columns)

    monkeypatch.setattr(_dense, "triangular_factor", watched)
    random = np.random.default_rng(0)
    assert sketch.lstsq(random.standard_normal((3000, 10)), random.standard_normal(3000), method="qr").certified
    assert seen and threads_of_scipy() == 3
