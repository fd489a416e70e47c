#!/bin/sh
# Plants violations of each kind in an otherwise clean tree and compares what words.sh reports.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/tests" "$root/kernels" "$root/docs"
cp -r "$here" "$root/tests/lint"
cd "$root"
cat > tests/lint/words.txt <<'END'
# a comment

second-level cache | L2
load_box | tma_load
END

# Allowed: nothing below may be reported.
cat > kernels/clean.cu <<'END'
__global__ void copy_kernel(const float* x);
template <int N>
__global__ void __launch_bounds__(N * (kWarp + 1), 2)
    scale_kernel(float* x) {}
template __global__ void reduce_kernel<32>(Args);
// __global__ void in_a_comment();
void reload_box(), load_boxes();
END
echo 'The L2 holds both.' > docs/clean.md
tests/lint/words.sh "$root"

cat > kernels/bad.cu <<'END'
__global__ void attend(Args args);
__global__ void __launch_bounds__(kThreads, 1)
    differentiate(Args args) {
  load_box(x);  // into the Second-Level Cache
}
END
echo 'a second-level cache' > docs/bad.md
echo '# load_box' > test.sh
cat > expected <<'END'
docs/bad.md:1: 'second-level cache': write L2
kernels/bad.cu:1: attend: the name of a __global__ function ends in _kernel
kernels/bad.cu:3: differentiate: the name of a __global__ function ends in _kernel
kernels/bad.cu:4: 'load_box': write tma_load
kernels/bad.cu:4: 'second-level cache': write L2
test.sh:1: 'load_box': write tma_load
END
if tests/lint/words.sh "$root" > reported; then
  echo "words.sh must fail where a phrase occurs; it passed" >&2
  exit 1
fi
LC_ALL=C sort -t: -k1,1 -k2,2n -k3 reported | diff -u expected -
