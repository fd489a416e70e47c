#!/bin/sh
# Plants a spilling kernel, a serialized one and a file without output beside clean ones and
# compares what spills.sh reports.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
folder=$root/CMakeFiles/smoe_kernels.dir/kernels/cuda
mkdir -p "$folder"

code=0
"$here/spills.sh" "$root" > /dev/null || code=$?
[ $code = 77 ] || { echo "a build without CUDA must be skipped; got exit code $code" >&2; exit 1; }

# kernel FILE NAME SPILLS [NOTE]
kernel() {
  : > "$folder/$1.cu.o"
  cat >> "$folder/$1.cu.o.ptxas" <<END_OF_KERNEL
ptxas info    : Compiling entry function '$2' for 'sm_90'
${4:-ptxas info    : Function properties for $2}
    64 bytes stack frame, $3 bytes spill stores, $3 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 128 bytes smem
END_OF_KERNEL
}
kernel clean one 0
kernel clean two 0
"$here/spills.sh" "$root"

kernel attention clean 0
kernel attention spilling 8
kernel gemm serialized 0 "ptxas info    : (C7510) Potential Performance Loss: wgmma is serialized"
: > "$folder/silent.cu.o"
: > "$folder/silent.cu.o.ptxas"
cat > "$root/expected" <<'END_OF_REPORT'
kernels/cuda/attention.cu: spilling on sm_90: 64 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
kernels/cuda/gemm.cu: serialized on sm_90: ptxas info    : (C7510) Potential Performance Loss: wgmma is serialized
kernels/cuda/silent.cu: ptxas named no kernel
END_OF_REPORT
if "$here/spills.sh" "$root" > "$root/reported"; then
  echo "spills.sh must fail where a kernel spills; it passed" >&2
  exit 1
fi
diff -u "$root/expected" "$root/reported"
