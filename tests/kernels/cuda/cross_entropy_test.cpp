#include "kernels/cross_entropy.h"

#include <doctest/doctest.h>

#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Sizes {
  std::int64_t num_tokens, vocabulary;
};
constexpr Sizes kSizes[] = {{0, 8}, {1, 1}, {3, 7}, {65, 257}, {5, 4096}, {33, 32000}, {2, 70001}};

std::vector<Result> run(const Sizes& sizes, DType dtype, double spread, bool write_gradient) {
  const auto [num_tokens, vocabulary] = sizes;
  const Tensor logits = random_normal("logits", {num_tokens, vocabulary}, dtype, spread);
  std::vector<std::int32_t> chosen;
  RandomStream stream(5, num_tokens, vocabulary);
  for (std::int64_t t = 0; t < num_tokens; ++t)
    chosen.push_back(t % 5 == 2 ? -1 : static_cast<std::int32_t>(stream.below(vocabulary)));
  const Tensor targets = Tensor::from(chosen, {num_tokens});
  const Tensor losses = Tensor::empty({num_tokens}, DType::f32);
  const Tensor total = Tensor::empty({1}, DType::f32);
  kernels::cross_entropy(launch(), {.logits = matrix_of(logits),
                                    .targets = targets.data_as<std::int32_t>(),
                                    .losses = losses.data(),
                                    .write_gradient = write_gradient,
                                    .scale = 0.125});
  kernels::sum_losses(launch(), {losses.data(), total.data(), DType::f32, num_tokens, 0.25});
  return {{"logits", logits, {.sum_length = vocabulary}},
          {"losses", losses, {.sum_length = vocabulary}},
          {"total", total, {.sum_length = vocabulary}}};
}

}  // namespace

TEST_CASE("cross_entropy on the GPU agrees with the CPU's") {
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const double spread : {1.0, 30.0})
        for (const bool write_gradient : {false, true})
          check_on_gpu(concat("cross_entropy [", sizes.num_tokens, ", ", sizes.vocabulary, "] ",
                              name_of(dtype), " spread ", spread, " gradient ", write_gradient),
                       [&] { return run(sizes, dtype, spread, write_gradient); });
}

TEST_CASE("cross_entropy on the GPU keeps NaNs in their row") {
  const StreamGuard guard(gpu_stream());
  const Tensor logits = tensor_of({1, NAN, 2, 3, 4, 5}, {2, 3}, DType::f32);
  const Tensor targets = Tensor::from<std::int32_t>({0, 0}, {2});
  const Tensor losses = Tensor::empty({2}, DType::f32);
  kernels::cross_entropy(launch(), {.logits = matrix_of(logits),
                                    .targets = targets.data_as<std::int32_t>(),
                                    .losses = losses.data(),
                                    .write_gradient = true,
                                    .scale = 1});
  CHECK(std::isnan(values_of(losses)[0]));
  CHECK(std::isfinite(values_of(losses)[1]));
  for (int j = 0; j < 3; ++j) {
    CHECK(std::isnan(values_of(logits)[j]));
    CHECK(std::isfinite(values_of(logits)[3 + j]));
  }
}
