#!/bin/bash
# Runs all that needs a GPU and prints a short table: every GPU test, by file, and the benchmarks.
#
#   tests/scripts/gpu_suite.sh [BIN_FOLDER]             tests and benchmarks; default build/release/bin
#   tests/scripts/gpu_suite.sh --sanitize [BIN_FOLDER]  the kernels' tests under compute-sanitizer's
#                                                       memcheck, racecheck, initcheck and synccheck
#
# Exit code 1 where something failed. Where there is no GPU each row says so.
set -euo pipefail
cd "$(dirname "$0")/../.."

sanitize=0
if [ "${1:-}" = --sanitize ]; then
  sanitize=1
  shift
fi
bin=${1:-build/release/bin}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
rows=()
benches="smoe_bench_dense smoe_bench_layer"

# row NAME COMMAND...: runs it and notes how it ended and how long it took, beside its output.
row() {
  local name=$1 log=$logs/${1//\//-} start=$SECONDS code=0
  shift
  "$@" > "$log" 2>&1 || code=$?
  echo "$code $((SECONDS - start))" > "$log.end"
  [ $code = 0 ] || [ $code = 77 ] || grep -vE '^=+$' "$log" | tail -n 40
}

# Tests share the GPU and wait for CPUs most of the time, so several run at once.
start_row() {
  rows+=("$1")
  while [ "$(jobs -rp | wc -l)" -ge "$(($(nproc) / 2 + 1))" ]; do wait -n || true; done
  row "$@" &
}

files=$(cd tests && find . -path '*/cuda/*_test.cpp' | sed 's|^\./||' | LC_ALL=C sort)
for file in $files; do
  if [ $sanitize = 0 ]; then
    start_row "$file" "$bin/gpu_tests" --source-file="*/$file"
    continue
  fi
  case $file in kernels/*) ;; *) continue ;; esac
  for tool in memcheck racecheck initcheck synccheck; do
    start_row "$file $tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$bin/gpu_tests" --source-file="*/$file"
  done
done
wait
[ $sanitize = 1 ] || for bench in $benches; do
  rows+=("$bench")
  row "$bench" "$bin/$bench"
done

is_failed=0
for name in "${rows[@]}"; do
  read -r code seconds < "$logs/${name//\//-}.end"
  case $code in
    0) verdict=passed ;;
    77) verdict='skipped: no GPU' ;;
    *) verdict=FAILED && is_failed=1 ;;
  esac
  printf '%-48s %s (%d s)\n' "$name" "$verdict" "$seconds"
done
[ $sanitize = 1 ] || for bench in $benches; do
  printf '\n%s\n' "$bench" && cat "$logs/$bench"
done
exit $is_failed
