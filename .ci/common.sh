# Sourced by every stage: the repository as working folder, a Python that can build, and a scratch folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
export CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-2}"
# What a developer has set must not decide what is tested.
unset PYTHONPATH PYTHONHOME PYTHONUNBUFFERED VIRTUAL_ENV SLIPSTICK_ISA SLIPSTICK_NUM_THREADS CXXFLAGS LDFLAGS
export PYTEST_ADDOPTS="-n $CMAKE_BUILD_PARALLEL_LEVEL"  # pytest-xdist: the tests in that many processes
exec < /dev/null

# .ci/run gives its stages one scratch folder; a stage called alone makes and removes its own.
if [[ -z ${SLIPSTICK_CI_SCRATCH:-} ]]; then
  SLIPSTICK_CI_SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/slipstick-ci.XXXXXX")
  export SLIPSTICK_CI_SCRATCH
  trap 'rm -rf "$SLIPSTICK_CI_SCRATCH"' EXIT
fi
scratch=$SLIPSTICK_CI_SCRATCH
export SKBUILD_BUILD_DIR=$scratch/package  # pip builds the same sources there again in no time

fail() {
  echo "$0: $*" >&2
  exit 1
}

# Prints the first Python that is new enough, can make a venv and has the headers that an extension needs; $PYTHON goes first.
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 /usr/bin/python3; do
    if "$candidate" - 2> /dev/null << 'PROBE'
import ensurepip, pathlib, sys, sysconfig, venv
sys.exit(not (sys.version_info >= (3, 10) and (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists()))
PROBE
    then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python fits; expected Python 3.10 or later with venv and Python.h (set PYTHON to name one)"
}

make_venv() {  # FOLDER
  local python
  python=$(find_python)
  "$python" -m venv "$1"
}

# The pinned tools, in a venv of their own, so that they cannot lend the package what it fails to declare.
ensure_tools() {
  tools=$scratch/tools
  [[ -e $tools/ready ]] && return
  make_venv "$tools"
  "$tools/bin/pip" install -q -r .ci/requirements.txt
  touch "$tools/ready"
}

# A venv with slipstick and its test extra: that of the stage `test` where it ran before.
ensure_installed() {
  installed=$scratch/installed
  [[ -e $installed/ready ]] && return
  rm -rf "$installed"
  make_venv "$installed"
  "$installed/bin/pip" install -q '.[test]'
  touch "$installed/ready"
}

# Configures and builds the core and its C++ tests in FOLDER, with further CMake options.
build_cpp_tests() {  # FOLDER OPTION...
  local folder=$1
  shift
  ensure_tools
  local launcher=()
  if command -v ccache > /dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
  "$tools/bin/cmake" -S . -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$tools/bin/ninja" -DSLIPSTICK_TESTS=ON "${launcher[@]}" "$@"
  "$tools/bin/cmake" --build "$folder"
}
