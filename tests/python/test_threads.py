# Contract: the default thread count is that of set_num_threads, else SLIPSTICK_NUM_THREADS, else OMP_NUM_THREADS, else the affinity mask; a bad
# value is named; a pool that was used works again after fork, in the child and in the parent. random_bytes is the parallel function used.
import os
import signal
import subprocess
import sys
import threading

import pytest

import slipstick

BLOCKS = 100_000  # seven tasks of the grid


@pytest.fixture(autouse=True)
def default_count_afterwards():
    yield
    slipstick.set_num_threads(None)


def fill(threads):
    return slipstick._core.random_bytes(1, 2, 3, BLOCKS, threads)


def threads_in_new_process(**variables):
    environment = {key: value for key, value in os.environ.items() if key not in ("SLIPSTICK_NUM_THREADS", "OMP_NUM_THREADS")}
    code = "import slipstick; print(slipstick.num_threads())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**environment, **variables})


def holds_in_child(call):
    """Runs call in a forked child, which an alarm ends should it hang; True if it returned True."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        result = 1
        try:
            result = 0 if call() else 1
        finally:
            os._exit(result)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_results_do_not_depend_on_the_thread_count(threads):
    assert fill(threads) == fill(1)
    slipstick.set_num_threads(threads)
    assert fill(0) == fill(1)


def test_set_num_threads_wins_and_none_returns_to_the_environment():
    before = slipstick.num_threads()
    slipstick.set_num_threads(before + 3)
    assert slipstick.num_threads() == slipstick.config()["threads"] == before + 3
    slipstick.set_num_threads(None)
    assert slipstick.num_threads() == before


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**70])
def test_a_count_out_of_range_is_refused(threads):
    with pytest.raises(ValueError, match=f"set_num_threads: threads is {threads}; expected a whole number from 1 to 1024"):
        slipstick.set_num_threads(threads)


@pytest.mark.parametrize("threads", ["2", 2.0])
def test_a_count_of_a_wrong_type_is_a_type_error(threads):
    with pytest.raises(TypeError):
        slipstick.set_num_threads(threads)


def test_the_environment_sets_the_default():
    assert threads_in_new_process(SLIPSTICK_NUM_THREADS="5", OMP_NUM_THREADS="4").stdout == "5\n"
    assert threads_in_new_process(OMP_NUM_THREADS="4").stdout == "4\n"
    assert threads_in_new_process(OMP_NUM_THREADS="4,2").stdout == "4\n"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs the affinity mask of Linux")
def test_without_variables_the_affinity_mask_counts():
    everything = os.sched_getaffinity(0)
    assert threads_in_new_process().stdout == f"{len(everything)}\n"
    code = "import os, slipstick; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(slipstick.num_threads())"
    environment = {key: value for key, value in os.environ.items() if key not in ("SLIPSTICK_NUM_THREADS", "OMP_NUM_THREADS")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert result.stdout == "1\n", result.stderr


@pytest.mark.parametrize("variable", ["SLIPSTICK_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-3", "many", "2.5", "1025"])
def test_a_bad_variable_is_named(variable, value):
    result = threads_in_new_process(**{variable: value})
    assert result.returncode == 1
    assert f"ValueError: {variable} is '{value}'; expected a whole number from 1 to 1024" in result.stderr


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # a fork in a program with threads is what is tested
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_use_the_pool_again():
    want = fill(3)
    assert holds_in_child(lambda: fill(3) == want)
    assert holds_in_child(lambda: fill(2) == want and holds_in_child(lambda: fill(7) == want))
    assert fill(3) == want


def test_threads_of_python_share_the_pool():
    want = fill(1)
    results = []
    callers = [threading.Thread(target=lambda: results.append(fill(3))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [want] * 4
