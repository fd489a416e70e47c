// Cases of kernels/gemm.h on the current stream: random operands and one run.
#pragma once
#include <doctest/doctest.h>

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

/// c of a = 1, b = 2 and an initial -512 in bf16: -512 + 2 k, which bf16 has, where it has not 2 k.
inline void check_rounding_after_addition(const GemmSizes& sizes, DType a_dtype, DType b_dtype) {
  const auto [m, n, k] = sizes;
  REQUIRE((k % 2 == 1 && k > 128 && k < 383));
  const auto all = [](const Shape& shape, double value, DType dtype) {
    return tensor_of(std::vector<double>(shape.numel(), value), shape, dtype);
  };
  const Tensor a = all({k, m}, 1, a_dtype), b = all({k, n}, 2, b_dtype);
  const Tensor c = all({m, n}, -512, DType::bf16);
  run_kernel(
      kernels::gemm, kernels::gemm_workspace_bytes,
      {.a = matrix_of(a), .transpose_a = true, .b = matrix_of(b), .c = matrix_of(c), .beta = 1});
  const std::vector<double> got = values_of(c), wanted(m * n, static_cast<double>(2 * k - 512));
  CHECK_MESSAGE(got == wanted, "gemm m ", m, " n ", n, " k ", k);
}
/// As weight gradients: few rows, of a router, one column, of a bias, and more than a tile.
inline constexpr GemmSizes kRoundedGemms[] = {{8, 264, 257},     {37, 16, 381},     {300, 1, 259},
                                              {1024, 1280, 321}, {4096, 1024, 379}, {129, 67, 261}};

}  // namespace smoe::test
