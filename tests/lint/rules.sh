#!/bin/sh
# Holds a tree's C++ and CUDA files to the rules in rules.awk: which folder may include what, who
# may open files, how long a file may be. Prints file:line of every violation.
# usage: tests/lint/rules.sh [ROOT]
set -eu
rules=$(cd "$(dirname "$0")" && pwd)/rules.awk
cd "${1:-$(dirname "$0")/../..}"
folders=
for folder in core kernels autograd layers optim train tests; do
  [ ! -d "$folder" ] || folders="$folders $folder"
done
# shellcheck disable=SC2086  # the list of folders is meant to be split
find $folders -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) |
  LC_ALL=C sort | xargs awk -f "$rules"
