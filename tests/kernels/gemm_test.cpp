#include "kernels/gemm.h"

#include <doctest/doctest.h>

#include "tests/kernels/gemm_cases.h"
#include "tests/reference/gemm.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

void check(const GemmCase& test) {
  const PoisonGuard poison;
  const auto [m, n, k] = test.sizes;
  const auto a = values_of(operand("a", m, k, test.transpose_a, test.a));
  const auto b = values_of(operand("b", k, n, test.transpose_b, test.b));
  auto c = values_of(operand("c", m, n, false, test.c));
  reference::gemm(m, n, k, a, test.transpose_a, b, test.transpose_b, test.beta, c);
  // Accumulation is in f64 if one operand is, but the bound of the output's dtype is wider.
  check_close(test.name(), run_gemm(test), c, {.sum_length = k + 1});
}

}  // namespace

TEST_CASE("gemm agrees with plain loops at irregular sizes, in every dtype and orientation") {
  for_each_gemm(kDtypes, check);
}

TEST_CASE("gemm converts between dtypes") {
  for (const DType a : kDtypes)
    for (const DType b : kDtypes)
      for (const DType c : {DType::f32, DType::bf16})
        if (a != DType::f64 && b != DType::f64) check({{67, 33, 300}, true, false, a, b, c, 1});
  check({{9, 10, 300}, false, true, DType::bf16, DType::f64, DType::f64, 1});
  check({{9, 10, 300}, false, true, DType::f64, DType::f64, DType::bf16, 0});
}

TEST_CASE("gemm rounds a bf16 result after beta c is added") {
  for (const GemmSizes& sizes : kRoundedGemms)
    for (const DType a : {DType::bf16, DType::f32})
      check_rounding_after_addition(sizes, a, DType::bf16);
}

TEST_CASE("gemm with k = 0 computes beta c, and without rows or columns writes nothing") {
  for_each_empty_gemm(kDtypes, check);
}

TEST_CASE("gemm splits a large k with a small output into K slices") {
  for (const GemmSizes& sizes : {GemmSizes{8, 16, 2049}, {130, 8, 1000}, {1, 1, 5000}})
    for (const DType dtype : kDtypes)
      for (const double beta : {0.0, 1.0})
        check({sizes, true, false, dtype, dtype, dtype == DType::f64 ? dtype : DType::f32, beta});
}

TEST_CASE("gemm's bits do not depend on the number of threads") {
  for (const GemmSizes& sizes : {GemmSizes{300, 520, 130}, {8, 16, 2049}, {700, 64, 64}})
    for (const DType dtype : kDtypes)
      check_thread_independence("gemm", [&] {
        return std::vector{run_gemm({sizes, true, false, dtype, dtype, dtype, 1})};
      });
}
