#!/usr/bin/env bash
# gpu.sh [FOLDER [ROOM...]]: proves and measures the CUDA kernels on this machine's device, in less than ten minutes.
#
# Builds slipstick with slipstick._cuda for the device at hand against the torch that is there (no package is fetched); runs the tests marked cuda of
# losses, sketch and lowbit, or of each ROOM; then the benchmarks that have a CUDA part; last the tests of every float32. Prints all, and writes
# gpu-CARD-DATE-ROOM.json and, of every stage, gpu-CARD-DATE-STAGE.txt to the folder RESULTS (default: results beside this file). A stage that fails, or takes
# too long, does not stop those after it.
# PYTHON names the interpreter (default python3); FOLDER, as build/gpu, keeps the build (default: a scratch folder that is removed), so that a second call compiles only
# what has changed; SECONDS_LEFT bounds all of it (default 540).
# Ends with 0 only if all passed; with 3, before anything is built, where something is missing: then it says what.
set -euo pipefail
work=${1:+$(realpath -m "$1")}
rooms=("${@:2}")
((${#rooms[@]})) || rooms=(losses sketch lowbit)
results=$(realpath -m "${RESULTS:-$(dirname "$0")/results}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
seconds=${SECONDS_LEFT:-540}
most=$seconds  # for one stage
begin=$SECONDS

missing() {
  echo "gpu.sh: $*" >&2
  exit 3
}
limited() {  # to what is left, and to $most
  local limit=$((seconds - (SECONDS - begin)))
  ((limit > 0)) || { echo "gpu.sh: no time is left of $seconds s" >&2; return 1; }
  timeout --kill-after=10 "$((limit < most ? limit : most))" "$@"
}

for room in "${rooms[@]}"; do
  [[ -e benchmarks/${room}_cuda.py ]] || missing "ROOM is $room; expected losses, sketch or lowbit"
done
command -v nvcc > /dev/null || PATH=${CUDA_HOME:-/usr/local/cuda}/bin:$PATH
command -v nvcc > /dev/null || missing "nvcc is neither on PATH nor in ${CUDA_HOME:-/usr/local/cuda}/bin; expected CUDA's compiler"
command -v "$python" > /dev/null || missing "there is no $python; PYTHON may name another"
found=$("$python" - << 'LOOK'
import importlib.util, re, shutil, sys
names = ("torch", "pip", "nanobind", "scikit_build_core", "pytest", "numpy", "scipy", "zstandard", "cmake", "ninja")
lacking = [name for name in names if importlib.util.find_spec(name) is None and not (name in ("cmake", "ninja") and shutil.which(name))]
if lacking:
    sys.exit(f"gpu.sh: {sys.executable} lacks what the build or the tests need: {', '.join(lacking)}; PYTHON may name another")
import torch
if not torch.cuda.is_available():
    sys.exit("gpu.sh: torch finds no CUDA device")
print("%d%d" % torch.cuda.get_device_capability(), re.sub("[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()))
LOOK
) || exit 3
read -r arch card <<< "$found"
archs=$(nvcc --list-gpu-arch | tr '\n' ' ')
[[ " $archs" == *" compute_$arch "* ]] || missing "nvcc compiles for ${archs}and the device is compute_$arch"

if [[ -z $work ]]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/slipstick-gpu.XXXXXX")
  trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$results"
report=$results/gpu-$card-$(date -u +%Y%m%d-%H%M)

failed=()
stage() {  # NAME COMMAND...
  echo "== $1, $((SECONDS - begin)) s"
  local status=0
  limited "${@:2}" 2>&1 | tee "$report-${1// /-}.txt" || status=$?
  ((status == 0)) && return
  ((status == 124 || status == 137)) && echo "gpu.sh: $1: took more than the time it had" | tee -a "$report-${1// /-}.txt" >&2
  failed+=("$1")
}

site=$work/site
stage build "$python" -m pip install -q --no-build-isolation --no-deps --upgrade --target "$site" -Cbuild-dir="$work/build" \
  -Ccmake.define.SLIPSTICK_CUDA=ON -Ccmake.define.CMAKE_CUDA_ARCHITECTURES="$arch-real" .
((${#failed[@]} == 0)) || { echo "gpu.sh: without a build there is nothing to run" >&2; exit 1; }
most=180  # from here on, so that one that hangs does not take all
export PYTHONPATH=$site
"$python" -c 'import slipstick; from slipstick._extension import cuda_extension
assert slipstick.config()["cuda"]; print(slipstick.__file__, cuda_extension().devices())'

# Tests before figures, as figures of what is wrong are worth nothing; what takes longest comes last: where the time runs out, that is what is missing.
pytest=("$python" benchmarks/cuda_tests.py -q -p no:cacheprovider -rf --durations=5)
for room in "${rooms[@]}"; do
  stage "$room tests" "${pytest[@]}" -m 'cuda and not long' "tests/python/test_${room}_cuda_torch.py"
done
for room in "${rooms[@]}"; do
  stage "$room benchmark" "$python" "benchmarks/${room}_cuda.py" --runs 5 --json "$report-$room.json"
done
if [[ " ${rooms[*]} " == *" lowbit "* ]]; then
  stage exhaustive "${pytest[@]}" -m 'cuda and long' tests/python/test_lowbit_cuda_torch.py
fi

echo "== done in $((SECONDS - begin)) s; $report-*"
if ((${#failed[@]})); then
  printf 'failed: %s\n' "${failed[@]}" >&2
  exit 1
fi
