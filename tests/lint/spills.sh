#!/bin/sh
# Fails where a CUDA kernel of a build keeps registers in memory (spills) or where ptxas has a note
# of lost performance (C75xx, such as serialized wgmma), and names the kernel. Needs no GPU.
# usage: tests/lint/spills.sh BUILD_FOLDER
set -eu
objects=$(find "$1" -name '*.cu.o' | LC_ALL=C sort)
if [ -z "$objects" ]; then
  echo "skipped: the build has no CUDA backend"
  exit 77
fi
for object in $objects; do
  awk '
    /Compiling entry function/ { split($0, quoted, /\047/); kernel = quoted[2]; gpu = quoted[4]; ++kernels }
    /bytes spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ { report($0) }
    /\(C75[0-9][0-9]\)/ { report($0) }
    function report(what) {
      sub(/^[ \t]+/, "", what)
      printf "%s: %s on %s: %s\n", source(), kernel, gpu, what
      failed = 1
    }
    function source(    name) {
      name = FILENAME
      sub(/^.*[.]dir\//, "", name)
      sub(/[.]o[.]ptxas$/, "", name)
      return name
    }
    END {
      if (!kernels) { printf "%s: ptxas named no kernel\n", source(); failed = 1 }
      exit failed
    }' "$object.ptxas" || failed=1
done
exit ${failed:-0}
