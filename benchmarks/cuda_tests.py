"""pytest for tests that reach a CUDA device: where one leaves the device unusable to its process, as a wild address does, or ends the process, the others
run in a new one.

python benchmarks/cuda_tests.py PYTEST_ARGUMENT...

Also the pytest plugin that this needs. After each test it waits for the device, so that an error belongs to the test that made it; and it says at once why
a test failed, as nothing is said at the end by a run that is stopped.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

FOLDER = "SLIPSTICK_CUDA_TESTS"  # names the folder of what one process tells the next: the tests begun, a line each, and whether the device is lost
NO_TESTS = 5  # pytest's status for an empty collection
MOST_PROCESSES = 20
LAST_LINES = 25  # of what a failure has to say


def device_error() -> str:
    """What the device of this process complains of, or nothing."""
    import torch

    if not torch.cuda.is_initialized():
        return ""
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def pytest_collection_modifyitems(items: list[Any]) -> None:
    begun = set(pathlib.Path(os.environ[FOLDER], "begun").read_text("utf-8").splitlines())
    items[:] = [item for item in items if item.nodeid not in begun]


class Failures:
    def __init__(self, config: Any) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            said = "\n".join(report.longreprtext.splitlines()[-LAST_LINES:])
            self.config.pluginmanager.get_plugin("terminalreporter").write(f"\n{report.nodeid}, {report.when}:\n{said}\n")


def pytest_configure(config: Any) -> None:
    config.pluginmanager.register(Failures(config))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: Any) -> Iterator[None]:
    folder = pathlib.Path(os.environ[FOLDER])
    with (folder / "begun").open("a", encoding="utf-8") as file:
        file.write(item.nodeid + "\n")
    yield
    error = device_error()
    if error:
        (folder / "lost").touch()
        item.session.shouldstop = f"the device is lost to this process after {item.nodeid}: {error}"


def main(arguments: list[str]) -> int:
    status, benchmarks = 0, str(pathlib.Path(__file__).resolve().parent)
    with tempfile.TemporaryDirectory() as folder:
        begun, lost = pathlib.Path(folder, "begun"), pathlib.Path(folder, "lost")
        begun.touch()
        path = os.pathsep.join(filter(None, (benchmarks, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, FOLDER: folder, "PYTHONPATH": path}
        environment.pop("PYTEST_ADDOPTS", None)  # tests in turn, whatever a user asks for elsewhere
        for process in range(MOST_PROCESSES):
            before = begun.stat().st_size
            result = subprocess.run([sys.executable, "-m", "pytest", "-p", "cuda_tests", "--tb=no", *arguments], env=environment).returncode
            if process > 0 and result == NO_TESTS:
                break  # it was the last test that the process before ended with
            status = status or result
            ended = result >= 0 and not lost.exists()
            lost.unlink(missing_ok=True)
            if ended or begun.stat().st_size == before:
                break
            print(f"cuda_tests: pytest ended with {result}; what it has not begun runs in a new process", flush=True)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
