# Contract: arrows point down. Rooms include no other room, intrinsics stay in cpp/simd and *.simd.*, the core knows no Python, floating point is
# computed as written, sources are ASCII and say what they are for, and logs and command line import nothing heavy. Each rule is a function from
# a path and a text to its faults; it must be silent over the tree and must find the fault planted for it.
from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

import slipstick

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("losses", "lowbit", "logs", "sketch")
CPP_SUFFIXES = (".cpp", ".h", ".cu", ".cuh")
BUILD_SUFFIXES = (".txt", ".cmake", ".toml", *CPP_SUFFIXES)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
INTRINSIC = re.compile(
    r"\b_mm(?:256|512)?_\w+\(|\b__m(?:64|128|256|512)[id]?\b|\b__mmask\d+\b|\b__builtin_(?:ia32|neon)_\w+"
    r"|\bv[a-z]+[a-z0-9]*q?_(?:n_|lane_)?[fsup](?:8|16|32|64)\w*\(|\b(?:float|u?int|poly)(?:8|16|32|64)x\d+(?:x\d)?_t\b"
    r"|<(?:[a-z]?mmintrin|immintrin|x86intrin|arm_neon|arm_sve)\.h>"
)
FOREIGN_HEADER = re.compile(r"^(?:Python\.h|structmember\.h|(?:nanobind|pybind11|numpy|torch|ATen|c10|jax|cuda)\b)")
UNSAFE_MATH = re.compile(
    r"-f(?:fast-math|unsafe-math-optimizations|associative-math|reciprocal-math|finite-math-only|no-signed-zeros|fp-contract=(?:fast|on))"
    r"|-Ofast\b|fast[-_]math|FP_CONTRACT\s+ON|fp\s+contract\s*\((?:fast|on)\)"
)


def room_of(path: str) -> str:
    """The room that a path belongs to, as in cpp/logs/block.cpp, cpp/include/slipstick/logs.h and lowbit_cuda.h; "" for base, simd and the rest."""
    match = re.match(r"(?:(?:cpp/include/)?slipstick/|cpp/)?(\w+?)(?:_cuda)?(?:/|\.h$)", path)
    return match[1] if match and match[1] in ROOMS else ""


def wrong_includes(path: str, text: str) -> list[str]:
    faults = []
    for bracket, name in INCLUDE.findall(text):
        other = room_of(name)
        if path.startswith("cpp/") and other and other != room_of(path):
            faults.append(f"includes {name} of the room {other}")
        if path.startswith("cpp/") and FOREIGN_HEADER.match(name):
            faults.append(f"includes {name}; the core knows no Python")
        if path.startswith("cpp/include/") and bracket == '"' and not name.startswith("slipstick/"):
            faults.append(f"is public and includes {name}, which is not")
        if path.startswith("bindings/") and bracket == '"' and other and not name.startswith("slipstick/"):
            faults.append(f"includes {name}; bindings see what the core offers in slipstick/")
        if ".." in pathlib.PurePosixPath(name).parts:
            faults.append(f"includes {name}; expected a path from cpp/")
    return faults


def stray_intrinsics(path: str, text: str) -> list[str]:
    if path.startswith("cpp/simd/") or ".simd." in path or path.endswith((".cu", ".cuh")):
        return []
    return [f"has {match[0]}" for match in INTRINSIC.finditer(text)]


def unsafe_math(path: str, text: str) -> list[str]:
    spoken_of = re.compile(r"\s*(?://|#(?!pragma)).*")  # a comment may name what is forbidden
    return [f"has {match[0]}" for line in text.splitlines() if not spoken_of.fullmatch(line) for match in UNSAFE_MATH.finditer(line)]


def foreign_characters(path: str, text: str) -> list[str]:
    return [f"line {number} is not ASCII" for number, line in enumerate(text.splitlines(), 1) if not line.isascii()]


def missing_purpose(path: str, text: str) -> list[str]:
    first = next(iter(text.splitlines()), "")
    return [] if re.match(r"// \S", first) else [f"begins with {first!r}; expected a comment that says what the file is for"]


RULES = {
    wrong_includes: (("cpp", "bindings"), CPP_SUFFIXES),
    stray_intrinsics: (("cpp", "bindings", "tests/cpp"), CPP_SUFFIXES),
    unsafe_math: (("CMakeLists.txt", "pyproject.toml", "cmake", "cpp", "bindings", "tests/cpp"), BUILD_SUFFIXES),
    foreign_characters: (("cpp", "bindings", "tests/cpp"), CPP_SUFFIXES),
    missing_purpose: (("cpp", "bindings", "tests/cpp"), CPP_SUFFIXES),
}

PLANTED = [
    (wrong_includes, "cpp/logs/block.cpp", '#include "sketch/hash.h"', '#include "logs/hash.h"'),
    (wrong_includes, "cpp/logs/block.cpp", '#include "slipstick/sketch.h"', '#include "slipstick/logs.h"'),
    (wrong_includes, "cpp/sketch/sketch.cu", '#include "slipstick/lowbit_cuda.h"', "#include <cuda_runtime.h>"),
    (wrong_includes, "cpp/base/random.cpp", '#  include "logs/hash.h"', '#include "base/isa_probe.h"'),
    (wrong_includes, "cpp/include/slipstick/logs.h", '#include "logs/block.h"', '#include "slipstick/error.h"'),
    (wrong_includes, "cpp/include/slipstick/logs.h", '#include "slipstick/lowbit.h"', "#include <string>"),
    (wrong_includes, "cpp/lowbit/lowbit.cpp", "#include <Python.h>", "#include <cmath>"),
    (wrong_includes, "cpp/losses/losses.cpp", "#include <torch/library.h>", "#include <vector>"),
    (wrong_includes, "cpp/losses/losses.cpp", "#include <nanobind/nanobind.h>", '#include "simd/vec.h"'),
    (wrong_includes, "bindings/logs.cpp", '#include "logs/block.h"', '#include "slipstick/logs.h"'),
    (wrong_includes, "cpp/logs/block.cpp", '#include "../base/kernel_table.h"', '#include "base/kernel_table.h"'),
    (stray_intrinsics, "cpp/logs/lexer.cpp", "auto x = _mm256_add_epi8(a, b);", "auto x = a + b;"),
    (stray_intrinsics, "cpp/base/random.cpp", "#include <immintrin.h>", "#include <cpuid.h>"),
    (stray_intrinsics, "cpp/base/random.cpp", "__m512i x;", "int x;"),
    (stray_intrinsics, "cpp/base/random.cpp", "auto x = vaddq_f32(a, b);", "auto x = vec_add(a, b);"),
    (stray_intrinsics, "cpp/base/random.cpp", "float32x4_t x;", "int32_t x;"),
    (unsafe_math, "CMakeLists.txt", "add_compile_options(-ffast-math)", "# never -ffast-math\nadd_compile_options(-ffp-contract=off)"),
    (unsafe_math, "CMakeLists.txt", "set(CMAKE_CXX_FLAGS -Ofast)", "set(CMAKE_CXX_FLAGS -O3)"),
    (unsafe_math, "cpp/simd/math.h", "#pragma STDC FP_CONTRACT ON", "#pragma once"),
    (unsafe_math, "cpp/simd/math.h", '__attribute__((optimize("fast-math")))', "// no fast-math here"),
    (foreign_characters, "cpp/base/cpu.cpp", "// 50 \N{MICRO SIGN}s", "// 50 us"),
    (missing_purpose, "cpp/base/cpu.cpp", "#include <vector>", "// Detection of the level.\n#include <vector>"),
]


def sources(places, suffixes):
    for place in places:
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.suffix in suffixes and file.is_file():
                yield file.relative_to(ROOT).as_posix(), file.read_text("utf-8")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_to_the_rule(rule):
    files = list(sources(*RULES[rule]))
    assert len(files) > 20
    assert [f"{path}: {fault}" for path, text in files for fault in rule(path, text)] == []


@pytest.mark.parametrize(("rule", "path", "wrong", "right"), PLANTED)
def test_the_rule_finds_a_planted_fault_and_only_that(rule, path, wrong, right):
    assert len(rule(path, wrong)) == 1
    assert rule(path, right) == []


def test_every_rule_has_a_planted_fault():
    assert {planted[0] for planted in PLANTED} == set(RULES)


def test_fusing_of_products_and_sums_is_turned_off_for_everything():
    top = (ROOT / "CMakeLists.txt").read_text("utf-8")
    assert re.search(r"^add_compile_options\(-ffp-contract=off\)$", top, re.MULTILINE)
    assert top.index("add_compile_options(-ffp-contract=off)") < top.index("add_subdirectory(cpp)")


def test_the_wheel_of_cuda_kernels_and_the_citation_are_of_the_version_of_slipstick():
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[1]
    wheel = (ROOT / "packaging" / "cu13" / "pyproject.toml").read_text("utf-8")
    assert re.findall(r'^version = "([^"]+)"', wheel, re.MULTILINE) == [version]
    assert f'dependencies = ["slipstick=={version}"]' in wheel.splitlines()
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text("utf-8").splitlines()


def light_modules():
    package = pathlib.Path(slipstick.__file__).parent
    files = [package / "__init__.py", *(file for room in ("logs", "cli") for file in (package / room).rglob("*.py"))]
    names = {".".join(["slipstick", *file.relative_to(package).with_suffix("").parts]).removesuffix(".__init__") for file in files}
    return sorted(name for name in names if not name.endswith("__main__"))


def test_logs_and_command_line_import_neither_numpy_nor_scipy_nor_torch():
    modules = light_modules()
    assert {"slipstick", "slipstick.logs", "slipstick.cli", "slipstick.cli.compress"} <= set(modules)
    code = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "from slipstick import logs\n"
        "assert logs.decompress(logs.compress(b'line 1\\nline 2\\n' * 99)) == b'line 1\\nline 2\\n' * 99\n"
        "print(*sorted({'numpy', 'scipy', 'torch'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
