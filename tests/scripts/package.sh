#!/bin/bash
# Installs a build into a temporary folder, as a user would, and builds the examples against it: by
# find_package, by pkg-config, and with the source tree as a subproject, added or fetched (configured
# only). Runs them.
#
#   tests/scripts/package.sh BUILD_FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "package: $*" >&2
  exit 1
}

cmake --install "$build" --prefix "$work/prefix" > "$work/install.log"
[ "$("$work/prefix/bin/smoe" --version)" = "$("$build/bin/smoe" --version)" ] ||
  fail "the installed program is another one"
for name in fault inject_faults; do
  [ -z "$(find "$work/prefix" -name "$name.h")" ] || fail "$name.h is installed"
done
missing=$(cd "$work/prefix/include/smoe" && grep -rhoP '^#include "\K[^"]+' . | sort -u |
  while read -r header; do [ -f "$header" ] || echo "$header"; done)
[ -z "$missing" ] || fail "installed headers include others that are not installed: $missing"
! grep -rq SMOE_FAULTS "$work/prefix" --include='*.cmake' --include='*.pc' ||
  fail "users are built with fault injection"
library=$(find "$work/prefix" -name libsmoe.so)
other=$(find "$work/prefix" -name 'lib*.so*' ! -name 'libsmoe.so*')
[ -z "$other" ] || fail "libraries of others are installed: $other"
! cpack -G DEB --config "$build/CPackConfig.cmake" -B "$work" > "$work/cpack.log" 2>&1 ||
  fail "a build with tests, which has fault injection in its library, becomes a package"
grep -q -e '-DSMOE_TESTS=OFF' "$work/cpack.log" || fail "$(tail -3 "$work/cpack.log")"
for missing in libcuda libcublas libcudnn libnccl; do
  ! ldd "$library" | grep -q "$missing" || fail "libsmoe.so needs $missing at start"
done

cmake -S "$root/examples" -B "$work/examples" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O1 > "$work/configure.log"
cmake --build "$work/examples" > "$work/build.log" || { cat "$work/build.log" && exit 1; }
for program in training_loop mixture_of_attention; do
  echo "== $program"
  "$work/examples/$program"
done
echo '== mixture_of_lora'
"$root/tests/scripts/mixture_of_lora.sh" "$work/prefix/bin/smoe" "$work/examples/mixture_of_lora"

echo '== pkg-config'
cat > "$work/one.cpp" <<'CPP'
#include "core/tensor.h"
int main() { return smoe::Tensor::zeros({2, 3}, smoe::DType::f32).numel() == 6 ? 0 : 1; }
CPP
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name smoe.pc)")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046  # flags are meant to be split
g++ -std=c++20 "$work/one.cpp" -o "$work/one" $(pkg-config --cflags --libs smoe)
LD_LIBRARY_PATH=$(dirname "$library") "$work/one"

# How a project adds smoe.
as_subproject() {
  echo "== $1"
  mkdir "$work/$1"
  cat > "$work/$1/CMakeLists.txt" <<CMAKE
cmake_minimum_required(VERSION 3.25)
project(parent LANGUAGES C CXX)
$2
add_executable(one "$work/one.cpp")
target_link_libraries(one PRIVATE smoe::smoe)
if(TARGET core_tests)
  message(FATAL_ERROR "a subproject builds its own tests")
endif()
CMAKE
  cmake -S "$work/$1" -B "$work/$1/build" -G Ninja -DSMOE_CUDA=OFF > "$work/$1.log"
}
as_subproject add_subdirectory "add_subdirectory(\"$root\" smoe)"
as_subproject FetchContent "include(FetchContent)
FetchContent_Declare(smoe SOURCE_DIR \"$root\")
FetchContent_MakeAvailable(smoe)"
