"""Sources of kernels in tests/cpp, compiled for the host."""

from __future__ import annotations

import ctypes
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def compiled(source):
    """tests/cpp/SOURCE as a library; skips where there is no compiler."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"there is no compiler {compiler[0]}")
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "host.so")
        command = [*compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", f"-I{ROOT}/cpp/include", f"-I{ROOT}/cpp"]
        subprocess.run([*command, str(ROOT / "tests/cpp" / source), "-o", str(file)], check=True)
        return ctypes.CDLL(str(file))
