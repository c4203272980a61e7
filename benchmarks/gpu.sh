#!/usr/bin/env bash
# gpu.sh [FOLDER]: proves and measures the CUDA kernels on this machine's device, in less than ten minutes.
#
# Builds slipstick with slipstick._cuda for the device at hand against the torch that is there (no package is fetched), runs the tests marked cuda,
# those of every float32 too, and the benchmarks that have a CUDA part; prints their tables and writes results/gpu-CARD-DATE-ROOM.json beside this file.
# PYTHON names the interpreter (default python3), FOLDER keeps the build (default: a scratch folder that is removed).
# Ends with 0 only if all passed; with 3, before anything is built, where something is missing: then it says what.
set -euo pipefail
work=${1:+$(realpath -m "$1")}
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
seconds=540  # for all of it
most=180  # for one part, so that one that hangs does not take all
begin=$SECONDS

missing() {
  echo "gpu.sh: $*" >&2
  exit 3
}
left() { echo $((seconds - (SECONDS - begin))); }
limited() {  # to what is left, and to $most
  local limit
  limit=$(left)
  ((limit > 0)) || { echo "gpu.sh: no time is left of $seconds s" >&2; return 1; }
  timeout --kill-after=10 "$((limit < most ? limit : most))" "$@"
}

command -v nvcc > /dev/null || missing "nvcc is not on PATH; expected CUDA's compiler"
"$python" -c 'import torch' 2> /dev/null || missing "$python has no torch; PYTHON may name another"
"$python" -c 'import nanobind, scikit_build_core, pytest, numpy, scipy, zstandard' ||
  missing "$python lacks a package that the build or the tests need; it is named above"
arch=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())' 2> /dev/null) ||
  missing "torch finds no CUDA device"
archs=$(nvcc --list-gpu-arch | tr '\n' ' ')
[[ " $archs" == *" compute_$arch "* ]] || missing "nvcc compiles for ${archs}and the device is compute_$arch"

if [[ -z $work ]]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/slipstick-gpu.XXXXXX")
  trap 'rm -rf "$work"' EXIT
fi
site=$work/site
echo "== build for sm_$arch"
limited "$python" -m pip install -q --no-build-isolation --no-deps --upgrade --target "$site" -Cbuild-dir="$work/build" \
  -Ccmake.define.SLIPSTICK_CUDA=ON -Ccmake.define.CMAKE_CUDA_ARCHITECTURES="$arch-real" .
export PYTHONPATH=$site
"$python" -c 'import slipstick; from slipstick._extension import cuda_extension
assert slipstick.config()["cuda"]; print(slipstick.__file__, cuda_extension().devices())'

failed=()
stage() {  # NAME COMMAND...
  echo "== $1, $((SECONDS - begin)) s"
  limited "${@:2}" || failed+=("$1")
}
results=benchmarks/results
mkdir -p "$results"
card=$("$python" -c 'import re, torch; print(re.sub("[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()))')
report=$results/gpu-$card-$(date -u +%Y%m%d-%H%M)

# Each room's tests before its figures, and what takes longest last: where the time runs out, that is what is missing.
for room in losses sketch lowbit; do
  stage "tests of $room" "$python" -m pytest -q -p no:cacheprovider -m 'cuda and not long' "tests/python/test_${room}_cuda_torch.py"
  stage "benchmark of $room" "$python" "benchmarks/${room}_cuda.py" --runs 5 --json "$report-$room.json"
done
stage exhaustive "$python" -m pytest -q -p no:cacheprovider -m 'cuda and long' tests/python/test_*_cuda_torch.py

echo "== done in $((SECONDS - begin)) s; $report-*.json"
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
