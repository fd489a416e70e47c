#!/bin/bash
# Runs everything that needs a GPU and prints short tables: the GPU tests by file, the comparison with
# transformers if Python has it, and the benchmarks.
#
#   tests/scripts/gpu_suite.sh [BIN_FOLDER]             tests and benchmarks; default build/release/bin
#   tests/scripts/gpu_suite.sh --sanitize [BIN_FOLDER]  the kernel tests under compute-sanitizer's
#                                                       memcheck, racecheck, initcheck and synccheck
#
# Exit code 1 if something failed. Without a GPU, each row reports that it was skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."

sanitize=0
if [ "${1:-}" = --sanitize ]; then
  sanitize=1
  shift
fi
bin=${1:-build/release/bin}
programs=(gpu_tests)
[ $sanitize = 1 ] || programs+=(train_tests smoe_bench_dense smoe_bench_layer)
for program in "${programs[@]}"; do
  [ -x "$bin/$program" ] || {
    echo "$bin/$program is missing; build it first: cmake --build --preset release" >&2
    exit 1
  }
done
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# row NAME COMMAND...: runs the command and prints the result; its output is shown if it failed.
row() {
  local name=$1 log=$logs/${1//\//-} start=$SECONDS code=0 verdict
  shift
  "$@" > "$log" 2>&1 || code=$?
  case $code in
    0) verdict=passed ;;
    77) verdict=$(grep -m 1 '^skipped: ' "$log" || echo 'skipped: no GPU') ;;
    *) verdict=FAILED && touch "$logs/failed" ;;
  esac
  printf '%-48s %s (%d s)\n' "$name" "$verdict" $((SECONDS - start))
  [ "$verdict" != FAILED ] || grep -vE '^=+$' "$log" | tail -n 40
}

# Tests share the GPU and mostly wait for CPUs, so several run concurrently.
start_row() {
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
  row "$@" &
}

# sanitized FILE TOOL SHARD: runs the tests of a file, except those of cuDNN's kernels. initcheck does
# not see writes of cuBLAS's kernels, so the kernels that read their output are excluded.
sanitized() {
  local filter=()
  [ "$1 $2" != 'kernels/cuda/gemm_test.cpp initcheck' ] ||
    filter=(--kernel-name-exclude kns=cublasLt --kernel-name-exclude kns=gemm_add_bf16_parts)
  SMOE_SANITIZER_SHARD=$3 compute-sanitizer --tool "$2" "${filter[@]}" --error-exitcode 1 \
    "$bin/gpu_tests" --source-file="*/$1" --test-case-exclude='*cuDNN*'
}

# The longest jobs start first.
files=$(cd tests && ls -U kernels/cuda/{attention,moe_mlp,grouped_gemm}_test.cpp &&
  find . -path '*/cuda/*_test.cpp' ! -name attention_test.cpp ! -name moe_mlp_test.cpp \
    ! -name grouped_gemm_test.cpp | sed 's|^\./||' | LC_ALL=C sort)
for file in $files; do
  if [ $sanitize = 0 ]; then
    start_row "$file" "$bin/gpu_tests" --source-file="*/$file"
    continue
  fi
  case $file in
    */attention_test.cpp | */moe_mlp_test.cpp | */grouped_gemm_test.cpp | */routing_test.cpp) shards=8 ;;
    kernels/*) shards=1 ;;
    *) continue ;;
  esac
  for tool in racecheck memcheck initcheck synccheck; do
    # There only cuBLAS's kernels use shared memory.
    [ "$file $tool" != 'kernels/cuda/gemm_test.cpp racecheck' ] || continue
    for ((shard = 0; shard < shards; ++shard)); do
      start_row "$file $tool $shard/$shards" sanitized "$file" "$tool" "$shard/$shards"
    done
  done
done
wait
if [ $sanitize = 0 ]; then
  row transformers tests/scripts/gpu_oracle.sh "$bin"
  printf '\n' && cat "$logs/transformers" && printf '\n'
  for bench in smoe_bench_dense smoe_bench_layer; do
    row "$bench" "$bin/$bench"
    printf '\n' && cat "$logs/$bench" && printf '\n'
  done
fi
[ ! -e "$logs/failed" ] || { echo 'Something failed.' && exit 1; }
