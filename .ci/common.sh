# Sourced by every stage: a copy of the repository as working folder, a Python that can build, and a scratch folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
export CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-2}"
# What a developer has set must not decide what is tested.
unset PYTHONPATH PYTHONHOME PYTHONUNBUFFERED VIRTUAL_ENV SLIPSTICK_ISA SLIPSTICK_NUM_THREADS CXXFLAGS LDFLAGS
export PYTEST_ADDOPTS="-n $CMAKE_BUILD_PARALLEL_LEVEL"  # pytest-xdist: the tests in that many processes
exec < /dev/null

# The tree as git would carry it, so that a file that nobody committed cannot make a stage pass.
copy_tree() {  # FOLDER
  mkdir -p "$1"
  if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
      if [[ -e $file ]]; then printf '%s\0' "$file"; fi
    done | tar -cf - --null --files-from=- | tar -xf - -C "$1"
  else
    cp -R . "$1"
  fi
  # Logs that lie beside the repository, which tests read where they are there.
  if [[ -d ../shared ]]; then ln -s "$(cd ../shared && pwd)" "$(dirname "$1")/shared"; fi
}

# .ci/run gives its stages one scratch folder; a stage called alone makes and removes its own. All work on the copy of the tree in it.
if [[ -z ${SLIPSTICK_CI_SCRATCH:-} ]]; then
  SLIPSTICK_CI_SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/slipstick-ci.XXXXXX")
  export SLIPSTICK_CI_SCRATCH
  trap 'rm -rf "$SLIPSTICK_CI_SCRATCH"' EXIT
  copy_tree "$SLIPSTICK_CI_SCRATCH/slipstick"
fi
scratch=$SLIPSTICK_CI_SCRATCH
cd "$scratch/slipstick"
# Where ccache is, objects of an earlier run serve again: its paths are told from the scratch folder, whose name changes.
if command -v ccache > /dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$scratch CCACHE_NOHASHDIR=1
fi
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

# A Python from 3.12 on makes the wheel of the stable ABI; without one, the Python of the other stages makes a wheel of its version.
prefer_stable_abi() {
  local candidate
  for candidate in python3.14 python3.13 python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3; do
    if "$candidate" -c 'import ensurepip, pathlib, sys, sysconfig; sys.exit(sys.version_info < (3, 12) or not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' 2> /dev/null; then
      PYTHON=${PYTHON:-$candidate}
      return
    fi
  done
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
  "$tools/bin/cmake" -S . -B "$folder" -G Ninja -DCMAKE_MAKE_PROGRAM="$tools/bin/ninja" -DSLIPSTICK_TESTS=ON "$@"
  "$tools/bin/cmake" --build "$folder"
}
