#include "kernels/gemm.h"

#include <doctest/doctest.h>

#include "tests/kernels/gemm_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::bf16};

void check(const GemmCase& test) {
  check_on_gpu(test.name(), [&] {
    return std::vector<Result>{{"c", run_gemm(test), {.sum_length = test.sizes.k + 1}}};
  });
}

}  // namespace

TEST_CASE("gemm on the GPU agrees with the CPU's at irregular sizes and in every orientation") {
  for_each_gemm(kDtypes, check);
}

TEST_CASE("gemm on the GPU accumulates bf16 products in f32") {
  for (const GemmSizes& sizes : {GemmSizes{7, 9, 100}, {64, 128, 4096}, {1024, 24, 3000}})
    for (const double beta : {0.0, 1.0})
      check({sizes, true, false, DType::bf16, DType::bf16, DType::f32, beta});
}

TEST_CASE("gemm on the GPU converts between dtypes") {
  for (const DType a : kDtypes)
    for (const DType b : kDtypes)
      for (const DType c : kDtypes)
        for (const double beta : {0.0, 1.0}) check({{67, 33, 300}, true, false, a, b, c, beta});
}

TEST_CASE("gemm on the GPU multiplies f32 by bf16 to f32 precision, as routers do") {
  for (const std::int64_t experts : {1, 8, 37, 128}) {
    check({{1000, experts, 520}, false, true, DType::bf16, DType::f32, DType::f32});
    check({{1000, 520, experts}, false, false, DType::f32, DType::f32, DType::bf16});
    for (const double beta : {0.0, 1.0})
      check({{experts, 520, 1000}, true, false, DType::f32, DType::bf16, DType::f32, beta});
  }
}

TEST_CASE("gemm on the GPU rounds a bf16 result after beta c is added") {
  const StreamGuard guard(gpu_stream());
  for (const GemmSizes& sizes : kRoundedGemms)
    for (const DType a : kDtypes) check_rounding_after_addition(sizes, a, DType::bf16);
}

TEST_CASE("gemm on the GPU with k = 0 computes beta c") {
  for_each_empty_gemm(kDtypes, check);
}
