#!/bin/sh
# Plants one violation of each rule in an otherwise clean tree and compares what rules.sh reports.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cd "$root"
mkdir -p core/base core/system kernels/cpu kernels/cuda autograd layers optim train/config train/new tests/reference tests/core

# Allowed: nothing below may be reported.
cat > core/base/check.h <<'END'
#include <sstream>
END
cat > core/tensor.cpp <<'END'
#include <fmt/format.h>
#include "core/base/check.h"
static_assert(true);  // an assert, printf or exit in a comment
const char* kText = "fopen(printf)";
END
cat > core/system/file.cpp <<'END'
#include <fcntl.h>
int f() { return ::open("x", O_RDONLY) + File::open("x"); }
END
cat > kernels/cpu/gemm.cpp <<'END'
#include <cblas.h>
#include "core/base/check.h"
#include "kernels/gemm.h"
END
cat > optim/adamw.cpp <<'END'
#include "autograd/parameter_store.h"
#include "kernels/optimizer.h"
END
cat > train/config/loop.cpp <<'END'
#include <yaml-cpp/yaml.h>
#include "layers/model_config.h"
int snprintf_(), reopen();
File file = File::open("x");
END
cat > tests/core/tensor_test.cpp <<'END'
#include <doctest/doctest.h>
#include <fstream>
#include "kernels/cpu/tiles.h"
END
awk 'BEGIN { for (i = 0; i < 401; ++i) print "//" }' > kernels/cpu/long.cpp
awk 'BEGIN { for (i = 0; i < 400; ++i) print "//" }' > core/full.cpp
"$here/rules.sh" "$root"

# One violation a line; the comment says which rule.
cat > core/base/bad.h <<'END'
#include <fmt/format.h>
#include "core/tensor.h"
END
cat > core/bad.h <<'END'
#pragma once
#include <fmt/format.h>
#include "kernels/gemm.h"
#include "tensor.h"
#include <boost/any.hpp>
END
cat > kernels/cuda/bad.cu <<'END'
#include <fmt/core.h>
  #  include "core/tensor.h"
END
cat > kernels/cpu/bad.cpp <<'END'
#include "kernels/cuda/launch.cuh"
END
cat > autograd/bad.cpp <<'END'
#include "kernels/cpu/tiles.h"
#include "layers/moe.h"
#include <nlohmann/json.hpp>
void f() { std::cout << 1; }
END
cat > layers/bad.cpp <<'END'
#include "kernels/gemm.h"
void f() { abort(); }
END
cat > optim/bad.cpp <<'END'
#include "autograd/tape.h"
END
cat > train/config/bad.cpp <<'END'
#include <fstream>
#include "kernels/cpu/tiles.h"
std::ofstream out;
int f() { return ::open("x", 0); }
YAML::Node g() { return YAML::LoadFile("x"); }
void h() { std::filesystem::rename(a, b); }
END
echo 'int x;' > train/new/bad.cpp
cat > tests/reference/bad.h <<'END'
#include "core/tensor.h"
END
awk 'BEGIN { for (i = 0; i < 401; ++i) print "//" }' > core/long.cpp

cat > expected <<'END'
autograd/bad.cpp:1: autograd may not include kernels/cpu/tiles.h
autograd/bad.cpp:2: autograd may not include layers/moe.h
autograd/bad.cpp:3: autograd may not include nlohmann-json (<nlohmann/json.hpp>)
autograd/bad.cpp:4: libraries neither print nor end the process
core/bad.h:2: core may not include fmt (<fmt/format.h>)
core/bad.h:3: core may not include kernels/gemm.h
core/bad.h:4: "tensor.h": our own headers are included by their path from the root
core/bad.h:5: <boost/any.hpp>: no library of tests/lint/rules.awk has this header
core/base/bad.h:1: core/base may not include fmt (<fmt/format.h>)
core/base/bad.h:2: core/base may not include core/tensor.h
core/long.cpp:401: longer than 400 lines
kernels/cpu/bad.cpp:1: kernels/cpu may not include kernels/cuda/launch.cuh
kernels/cuda/bad.cu:1: CUDA sources may not include fmt
kernels/cuda/bad.cu:2: kernels/cuda may not include core/tensor.h
layers/bad.cpp:1: layers may not include kernels/gemm.h
layers/bad.cpp:2: libraries neither print nor end the process
optim/bad.cpp:1: optim may not include autograd/tape.h
tests/reference/bad.h:1: tests/reference may not include core/tensor.h
train/config/bad.cpp:1: only file, folder and io_calls of core/system touch the file system
train/config/bad.cpp:2: train/config may not include kernels/cpu/tiles.h
train/config/bad.cpp:3: only file, folder and io_calls of core/system touch the file system
train/config/bad.cpp:4: only file, folder and io_calls of core/system touch the file system
train/config/bad.cpp:5: only file, folder and io_calls of core/system touch the file system
train/config/bad.cpp:6: only file, folder and io_calls of core/system touch the file system
train/new/bad.cpp:1: train/new has no row
END
if "$here/rules.sh" "$root" > reported; then
  echo "rules.sh must fail where a rule is broken; it passed" >&2
  exit 1
fi
LC_ALL=C sort -t: -k1,1 -k2,2n reported | diff -u expected -
