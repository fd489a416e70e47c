// Cases of kernels/gemm.h on the current stream: random operands and one run.
#pragma once
#include <span>
#include <string>

#include "autograd/ops/run_kernel.h"
#include "core/base/check.h"
#include "kernels/gemm.h"
#include "tests/support/tensors.h"

namespace smoe::test {

struct GemmSizes {
  std::int64_t m, n, k;
};

struct GemmCase {
  GemmSizes sizes;
  bool transpose_a = false, transpose_b = false;
  DType a = DType::f32, b = DType::f32, c = DType::f32;
  double beta = 0;

  std::string name() const {
    return concat("gemm m ", sizes.m, " n ", sizes.n, " k ", sizes.k, " op ", transpose_a,
                  transpose_b, " beta ", beta, " ", name_of(a), " ", name_of(b), " ", name_of(c));
  }
};

/// check(GemmCase) at irregular sizes and in every orientation.
template <class Check>
void for_each_gemm(std::span<const DType> dtypes, const Check& check) {
  for (const GemmSizes& sizes : {GemmSizes{1, 1, 1},
                                 {1, 7, 3},
                                 {7, 1, 5},
                                 {129, 3, 33},
                                 {65, 70, 130},
                                 {5, 300, 1},
                                 {256, 512, 64},
                                 {130, 257, 65},
                                 {8, 16, 5000}})
    for (const DType dtype : dtypes)
      for (const bool transpose_a : {false, true})
        for (const bool transpose_b : {false, true})
          for (const double beta : {0.0, 1.0})
            check({sizes, transpose_a, transpose_b, dtype, dtype, dtype, beta});
}

/// check(GemmCase) with k = 0, which computes beta c, and without rows or columns.
template <class Check>
void for_each_empty_gemm(std::span<const DType> dtypes, const Check& check) {
  for (const GemmSizes& sizes :
       {GemmSizes{3, 4, 0}, {300, 700, 0}, {0, 4, 5}, {4, 0, 5}, {0, 0, 0}})
    for (const DType dtype : dtypes)
      for (const double beta : {0.0, 0.5, 1.0})
        for (const bool transpose : {false, true})
          check({sizes, transpose, !transpose, dtype, dtype, dtype, beta});
}

/// Random values for op(x) [rows, cols].
inline Tensor operand(const char* name, std::int64_t rows, std::int64_t cols, bool transposed,
                      DType dtype) {
  return random_normal(name, transposed ? Shape{cols, rows} : Shape{rows, cols}, dtype);
}

/// Runs gemm on operand("a", ...), operand("b", ...) and, with beta, operand("c", ...); returns c.
inline Tensor run_gemm(const GemmCase& test) {
  const auto [m, n, k] = test.sizes;
  const Tensor a = operand("a", m, k, test.transpose_a, test.a);
  const Tensor b = operand("b", k, n, test.transpose_b, test.b);
  // Poisoned if beta is zero, so that a kernel that reads it produces NaNs.
  const Tensor c =
      test.beta == 0 ? Tensor::empty({m, n}, test.c) : operand("c", m, n, false, test.c);
  run_kernel(kernels::gemm, kernels::gemm_workspace_bytes,
             {.a = matrix_of(a),
              .transpose_a = test.transpose_a,
              .b = matrix_of(b),
              .transpose_b = test.transpose_b,
              .c = matrix_of(c),
              .beta = test.beta});
  return c;
}

}  // namespace smoe::test
