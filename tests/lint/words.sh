#!/bin/sh
# Checks the vocabulary of a tree's sources, scripts and documents: every __global__ function's name
# ends in _kernel, and no phrase or identifier of words.txt occurs. Prints file:line of each violation.
# usage: tests/lint/words.sh [ROOT]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$here/../..}"
paths=
for path in .ci core kernels autograd layers optim train tests examples configs docs scripts cmake *.md *.sh \
  CMakeLists.txt; do
  [ ! -e "$path" ] || paths="$paths $path"
done
# shellcheck disable=SC2086  # the list of paths is meant to be split
find $paths -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' \
  -o -name '*.awk' -o -name '*.py' -o -name '*.md' -o -name '*.yaml' -o -name '*.cmake' \
  -o -name CMakeLists.txt -o -path '.ci/*' \) ! -path 'tests/lint/words_test.sh' |
  LC_ALL=C sort | xargs awk -f "$here/words.awk" "$here/words.txt"
