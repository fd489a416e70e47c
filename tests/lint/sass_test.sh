#!/bin/sh
# Gives sass.sh disassemblies by a planted cuobjdump and compares what it reports.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
folder=$root/CMakeFiles/smoe_sm90.dir/kernels
mkdir -p "$folder"
printf '#!/bin/sh\ncat "$2"\n' > "$root/cuobjdump"
chmod +x "$root/cuobjdump"
export CUOBJDUMP="$root/cuobjdump"

code=0
"$here/sass.sh" "$root" > /dev/null || code=$?
[ $code = 77 ] || { echo "a build without sm90 kernels must be skipped; got exit code $code" >&2; exit 1; }

kernel() {  # kernel FILE NAME OPCODE...
  file=$folder/$1.cu.o
  echo "Function : $2" >> "$file"
  shift 2
  for opcode in "$@"; do echo "/*0a10*/ $opcode R2, R3 ;" >> "$file"; done
}
kernel before clean IMAD.WIDE.U32 LDGSTS.E LDGSTS.E ARRIVES.LDGSTSBAR IMAD.WIDE LDGSTS.E ARRIVES.LDGSTSBAR
"$here/sass.sh" "$root"

kernel between slow LDGSTS.E IMAD LDGSTS.E IMAD.WIDE IMAD.WIDE LDGSTS.E ARRIVES.LDGSTSBAR
kernel between after LDGSTS.E LDGSTS.E IMAD.WIDE ARRIVES.LDGSTSBAR
: > "$folder/silent.cu.o"
cat > "$root/expected" <<'END_OF_REPORT'
kernels/between.cu: slow: 2 64-bit IMADs between the copies of a stage
kernels/silent.cu: cuobjdump named no kernel
END_OF_REPORT
if "$here/sass.sh" "$root" > "$root/reported"; then
  echo "sass.sh must fail where copies wait for an IMAD; it passed" >&2
  exit 1
fi
diff "$root/expected" "$root/reported"
