#!/bin/sh
# Fails where a kernel of the sm90 expert GEMMs has a 64-bit IMAD between the first and the
# last asynchronous copy of a stage: while wgmma runs, each one holds up the whole SM. Needs no GPU.
# usage: tests/lint/sass.sh BUILD_FOLDER
set -eu
cuobjdump=${CUOBJDUMP:-cuobjdump}
objects=$(find "$1" -path '*smoe_sm90.dir*' -name '*.cu.o' | LC_ALL=C sort)
if [ -z "$objects" ]; then
  echo "skipped: the build has no sm90 kernels"
  exit 77
fi
if ! command -v "$cuobjdump" > /dev/null; then
  echo "skipped: cuobjdump of the CUDA toolkit is not on PATH"
  exit 77
fi
for object in $objects; do
  "$cuobjdump" -sass "$object" | awk -v object="$object" '
    BEGIN { sub(/^.*smoe_sm90[.]dir\//, "", object); sub(/[.]o$/, "", object) }
    /Function :/ { kernel = $3; in_stage = 0; ++kernels }
    / LDGSTS/ { if (in_stage) found += pending; in_stage = 1; pending = 0 }
    /IMAD[.]WIDE/ { ++pending }
    /ARRIVES[.]LDGSTSBAR/ {  # the end of a stage
      if (found) { printf "%s: %s: %d 64-bit IMADs between the copies of a stage\n", object, kernel, found; failed = 1 }
      in_stage = pending = found = 0
    }
    END {
      if (!kernels) { printf "%s: cuobjdump named no kernel\n", object; failed = 1 }
      exit failed
    }' || failed=1
done
exit ${failed:-0}
