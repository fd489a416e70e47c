#include "kernels/cross_entropy.h"

#include <doctest/doctest.h>

#include "tests/kernels/cross_entropy_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// More rows than a GPU has SMs and than it has twice, each of one chunk, of one and a tail, and of
// several.
constexpr CrossEntropySizes kSizes[] = {{0, 8},      {1, 1},     {3, 7},       {65, 257},
                                        {5, 4096},   {1000, 72}, {200, 16400}, {300, 8200},
                                        {33, 32000}, {2, 32768}, {2, 70001}};

std::vector<Result> run(const CrossEntropySizes& sizes, DType dtype, double spread,
                        bool write_gradient) {
  const Tensor logits = random_logits(sizes, dtype, spread);
  // A loss is the difference of two values as large as the logits, each rounded to f32.
  const double rounding = unit_roundoff(DType::f32) * largest(values_of(logits));
  const Tensor losses = run_cross_entropy(logits, random_targets(sizes, 5), write_gradient, 0.125);
  const auto closeness = [&](double scale) {
    return Closeness{.sum_length = sizes.vocabulary, .slack = scale * rounding};
  };
  return {{"logits", logits, closeness(write_gradient ? 0.125 : 0)},
          {"losses", losses, closeness(1)},
          {"total", run_sum_losses(losses, 0.25), closeness(0.25 * sizes.num_tokens)}};
}

}  // namespace

TEST_CASE("cross_entropy on the GPU agrees with the CPU's") {
  for (const CrossEntropySizes& sizes : kSizes)
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const double spread : {1.0, 30.0})
        for (const bool write_gradient : {false, true})
          check_on_gpu(concat("cross_entropy [", sizes.num_tokens, ", ", sizes.vocabulary, "] ",
                              name_of(dtype), " spread ", spread, " gradient ", write_gradient),
                       [&] { return run(sizes, dtype, spread, write_gradient); });
}

TEST_CASE("cross_entropy on the GPU keeps NaNs in their row") {
  const StreamGuard guard(gpu_stream());
  check_nan_row();
}
