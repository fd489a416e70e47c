#!/bin/bash
# Runs all that needs a GPU and prints a short table: every GPU test, by file, and the benchmarks.
#
#   tests/scripts/gpu_suite.sh [BIN_FOLDER]             tests and benchmarks; default build/release/bin
#   tests/scripts/gpu_suite.sh --sanitize [BIN_FOLDER]  the kernels' tests under compute-sanitizer's
#                                                       memcheck, racecheck, initcheck and synccheck
#
# Exit code 77 where there is no GPU, 1 where something failed.
set -euo pipefail
cd "$(dirname "$0")/../.."

sanitize=0
if [ "${1:-}" = --sanitize ]; then
  sanitize=1
  shift
fi
bin=${1:-build/release/bin}
logs=$(mktemp -d)
summary=()
is_failed=0

# row NAME COMMAND...: runs it; its output goes to the screen only where it fails.
row() {
  local name=$1 start=$SECONDS code=0
  shift
  "$@" > "$logs/log" 2>&1 || code=$?
  if [ $code = 77 ]; then
    tail -n 1 "$logs/log"
    exit 77
  fi
  local verdict=passed
  if [ $code != 0 ]; then
    verdict=FAILED
    is_failed=1
    grep -vE '^=+$' "$logs/log" | tail -n 40
  fi
  summary+=("$(printf '%-44s %s (%d s)' "$name" "$verdict" $((SECONDS - start)))")
}

files=$(cd tests && find . -path '*/cuda/*_test.cpp' | sed 's|^\./||' | LC_ALL=C sort)
for file in $files; do
  if [ $sanitize = 0 ]; then
    row "$file" "$bin/gpu_tests" --source-file="*/$file"
    continue
  fi
  case $file in kernels/*) ;; *) continue ;; esac
  for tool in memcheck racecheck initcheck synccheck; do
    row "$file $tool" compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$bin/gpu_tests" --source-file="*/$file"
  done
done

printf '\n'
printf '%s\n' "${summary[@]}"
if [ $sanitize = 0 ]; then
  for bench in smoe_bench_dense smoe_bench_gpu; do
    [ ! -x "$bin/$bench" ] || { printf '\n%s\n' "$bench" && "$bin/$bench"; } || is_failed=1
  done
fi
exit $is_failed
