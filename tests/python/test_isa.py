# Contract: set_isa and SLIPSTICK_ISA choose among the levels of this machine, the chosen kernels really run, and any other name is refused with
# the levels listed. isa_proof() reads the level from the kernel table and from the compiler's own macros inside the kernels.
import os
import platform
import subprocess
import sys

import pytest

import slipstick

pytestmark = pytest.mark.kernel  # run once per level by .ci/kernels

LEVELS = slipstick.config()["isa_levels"]


@pytest.fixture(autouse=True)
def default_level_afterwards():
    yield
    slipstick.set_isa(None)


def isa_in_new_process(value):
    code = "import slipstick; print(slipstick.isa(), *slipstick._core.isa_proof())"
    environment = {**os.environ, "SLIPSTICK_ISA": value}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)


@pytest.mark.parametrize("level", ["v2", "v3", "v4", "v4_bf16", "neon"])
def test_a_forced_level_is_the_one_running(level):
    if level not in LEVELS:
        pytest.skip(f"this machine has no {level}")
    slipstick.set_isa(level)
    assert slipstick.isa() == slipstick.config()["isa"] == level
    assert slipstick._core.isa_proof() == (level, level)
    result = isa_in_new_process(level)
    assert result.stdout.split() == [level] * 3, result.stderr


def test_levels_are_the_known_ones_of_this_processor_in_order():
    known = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["v2", "v3", "v4", "v4_bf16"]
    assert LEVELS and known[: len(LEVELS)] == LEVELS


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo") or platform.machine() != "x86_64", reason="needs x86-64 Linux")
def test_levels_agree_with_the_kernel_of_the_system():
    with open("/proc/cpuinfo") as file:
        flags = set(next(line for line in file if line.startswith("flags")).split(":")[1].split())
    levels = ["v2"] if {"ssse3", "sse4_1", "sse4_2", "popcnt"} <= flags else []
    if levels and {"avx", "avx2", "bmi1", "bmi2", "fma", "f16c", "movbe", "abm"} <= flags:
        levels.append("v3")
    if len(levels) == 2 and {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags:
        levels.append("v4")
    if len(levels) == 3 and "avx512_bf16" in flags:
        levels.append("v4_bf16")
    assert LEVELS == levels


@pytest.mark.skipif("SLIPSTICK_ISA" in os.environ, reason="SLIPSTICK_ISA is set for this run")
def test_the_default_is_the_highest_level():
    slipstick.set_isa(LEVELS[0])
    slipstick.set_isa(None)
    assert slipstick.isa() == LEVELS[-1]


@pytest.mark.parametrize("name", ["avx512", "", "V2", "v2 "])
def test_an_unknown_level_is_refused_and_changes_nothing(name):
    slipstick.set_isa(LEVELS[0])
    with pytest.raises(ValueError) as error:
        slipstick.set_isa(name)
    expected = ", ".join(f"'{level}'" for level in LEVELS)
    assert str(error.value) == f"set_isa: '{name}' is not a level of this machine; expected one of {expected}"
    assert slipstick.isa() == LEVELS[0]


def test_a_level_with_a_nul_behind_its_name_is_refused():
    with pytest.raises(ValueError, match="set_isa: "):
        slipstick.set_isa(LEVELS[0] + "\0")


def test_a_wrong_type_is_a_type_error():
    with pytest.raises(TypeError):
        slipstick.set_isa(3)


def test_an_unknown_level_in_the_environment_is_named():
    result = isa_in_new_process("mmx")
    assert result.returncode == 1
    assert (
        "ValueError: SLIPSTICK_ISA: 'mmx' is not a level of this machine; expected one of 'v2'" in result.stderr
        or platform.machine() != "x86_64"
    )
