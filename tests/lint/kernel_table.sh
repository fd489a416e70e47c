#!/bin/sh
# Checks that the table "Names in a profile" of docs/architecture.md explains every __global__ function
# of kernels/, and nothing else. Prints each name that is on one side only.
# usage: tests/lint/kernel_table.sh [ROOT]
set -eu
cd "${1:-$(dirname "$0")/../..}"

kernels=$(find kernels \( -name '*.cu' -o -name '*.cuh' \) -exec cat {} + | tr '\n' ' ' |
  grep -oE '__global__ [^;{(]*(\([^()]*\)[^;{(]*)?[a-z0-9_]+_kernel\(' |
  sed 's/_kernel($//; s/.*[^a-z0-9_]//' | sort -u)
# Patterns of shells: a name may end in *.
patterns=$(awk -F'|' '/^## Names in a profile/ { is_table = 1 } is_table { print $2 }' docs/architecture.md |
  grep -o '`[a-z0-9_]*\*\{0,1\}`' | tr -d '`')
[ -n "$kernels" ] && [ -n "$patterns" ] || { echo "no kernels or no table were found" && exit 1; }

# matches NAME PATTERN
matches() {
  # shellcheck disable=SC2254  # the pattern is meant as one
  case $1 in $2) return 0 ;; esac
  return 1
}
set -f
is_failed=0
for kernel in $kernels; do
  is_found=0
  for pattern in $patterns; do ! matches "$kernel" "$pattern" || is_found=1; done
  [ $is_found = 1 ] || { echo "docs/architecture.md: does not explain ${kernel}_kernel" && is_failed=1; }
done
for pattern in $patterns; do
  is_found=0
  for kernel in $kernels; do ! matches "$kernel" "$pattern" || is_found=1; done
  [ $is_found = 1 ] || { echo "docs/architecture.md: there is no kernel $pattern" && is_failed=1; }
done
exit $is_failed
