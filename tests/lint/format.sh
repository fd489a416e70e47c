#!/bin/sh
# Checks every C++ and CUDA file against .clang-format. Other versions of clang-format lay out the
# same style differently, so without version 14 the check is skipped (exit code 77).
set -eu
cd "$(dirname "$0")/../.."
formatter=
for candidate in clang-format-14 clang-format; do
  if "$candidate" --version 2>/dev/null | grep -q 'version 14\.'; then
    formatter=$candidate
    break
  fi
done
if [ -z "$formatter" ]; then
  echo "skipped: clang-format 14 is not installed"
  exit 77
fi
find core kernels autograd layers optim train tests examples -type f \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) |
  LC_ALL=C sort | xargs "$formatter" --dry-run -Werror
