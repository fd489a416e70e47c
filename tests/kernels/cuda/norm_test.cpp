#include "kernels/norm.h"

#include <doctest/doctest.h>

#include "tests/kernels/norm_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::bf16};

// Tails, no rows, more rows than thread blocks of the backward, a row that exceeds shared memory.
constexpr NormSizes kSizes[] = {{0, 8},     {1, 1},    {1, 7},      {3, 1},      {5, 33},
                                {17, 8},    {64, 128}, {33, 1024},  {200, 1032}, {600, 776},
                                {37, 2048}, {6, 4096}, {20000, 24}, {3, 20000}};

std::vector<Result> forward(const NormSizes& sizes, DType dtype, bool with_delta, Over over) {
  const NormForward norm = run_norm(sizes, dtype, with_delta, over);
  std::vector<Result> results{{"y", norm.y, {.sum_length = sizes.width}},
                              {"inverse_rms", norm.inverse_rms, {.sum_length = sizes.width}}};
  if (with_delta) results.push_back({"sum", norm.sum});
  return results;
}

std::vector<Result> backward(const NormSizes& sizes, DType dtype, bool with_dsum, double beta,
                             Over over, DType dweight = DType::f32) {
  const NormBackward result =
      run_norm_backward(run_norm(sizes, dtype, false), with_dsum, beta, over, dweight);
  return {{"dx", result.dx, {.sum_length = sizes.width}},
          {"dweight", result.dweight, {.sum_length = sizes.num_tokens + 1}}};
}

std::string describe(const char* what, const NormSizes& sizes, DType dtype) {
  return concat(what, " [", sizes.num_tokens, ", ", sizes.width, "] ", name_of(dtype));
}

}  // namespace

TEST_CASE("rms_norm on the GPU agrees with the CPU's") {
  for (const NormSizes& sizes : kSizes)
    for (const DType dtype : kDtypes) {
      const std::string name = describe("rms_norm", sizes, dtype);
      check_on_gpu(name, [&] { return forward(sizes, dtype, false, Over::none); });
      check_on_gpu(name + " in place", [&] { return forward(sizes, dtype, false, Over::x); });
      check_on_gpu(name + " + delta", [&] { return forward(sizes, dtype, true, Over::none); });
      check_on_gpu(name + " over delta", [&] { return forward(sizes, dtype, true, Over::delta); });
    }
}

TEST_CASE("rms_norm of summed rows on the GPU agrees with the CPU's") {
  for (const NormSizes& sizes : kSizes)
    for (const DType dtype : kDtypes)
      for (const std::int64_t top_k : {1, 2, 3, 9})
        check_on_gpu(concat(describe("rms_norm of rows", sizes, dtype), " K ", top_k), [&] {
          const FusedForward r = run_fused_norm(sizes, dtype, top_k);
          const Closeness close{.sum_length = sizes.width + top_k};
          return std::vector<Result>{{"sum", r.sum, {.sum_length = top_k + 1}},
                                     {"y", r.y, close},
                                     {"inverse_rms", r.inverse_rms, close}};
        });
}

TEST_CASE("rms_norm_backward on the GPU agrees with the CPU's") {
  for (const NormSizes& sizes : kSizes)
    for (const DType dtype : kDtypes) {
      const std::string name = describe("rms_norm_backward", sizes, dtype);
      check_on_gpu(name, [&] { return backward(sizes, dtype, false, 0, Over::none); });
      check_on_gpu(name + " beta 1 over dy",
                   [&] { return backward(sizes, dtype, true, 1, Over::dy); });
      check_on_gpu(name + " over dsum",
                   [&] { return backward(sizes, dtype, true, 0, Over::dsum); });
      for (const double beta : {0.0, 1.0})
        check_on_gpu(concat(name, " bf16 dweight, beta ", beta),
                     [&] { return backward(sizes, dtype, true, beta, Over::none, DType::bf16); });
    }
}

TEST_CASE("rms_norm_backward of parts on the GPU agrees with the CPU's") {
  for (const NormSizes& sizes : kSizes)
    for (const DType dtype : kDtypes)
      for (const PartsCase& c : kPartsCases)
        for (const Over over : {Over::none, Over::dy, Over::dsum})
          check_on_gpu(
              concat(describe("parts", sizes, dtype), " dense ", c.dense, " rows ", c.rows, " K ",
                     c.top_k, " E ", c.num_experts),
              [&] {
                const PartsBackward r = run_parts_backward(run_norm(sizes, dtype, false), c, over);
                const std::int64_t length = c.top_k + c.num_experts + 2;
                return std::vector<Result>{
                    {"dx", r.dx, {.sum_length = sizes.width * length}},
                    {"dweight", r.dweight, {.sum_length = (sizes.num_tokens + 1) * length}}};
              });
}
