#include "kernels/norm.h"

#include <doctest/doctest.h>

#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// Large, so that rows of one element, whose gradient is all epsilon, are well conditioned.
constexpr double kEpsilon = 1;
constexpr DType kDtypes[] = {DType::f32, DType::bf16};

// Tails, no rows, more rows than blocks of the backward, a row wider than shared memory holds.
struct Sizes {
  std::int64_t num_tokens, width;
};
constexpr Sizes kSizes[] = {{0, 8},    {1, 1},     {1, 7},      {3, 1},      {5, 33},   {17, 8},
                            {64, 128}, {33, 1024}, {200, 1032}, {20000, 24}, {3, 20000}};

enum class Over { none, first, second };

std::vector<Result> forward(const Sizes& sizes, DType dtype, bool with_delta, Over over) {
  const auto [num_tokens, width] = sizes;
  const Tensor x = random_normal("x", {num_tokens, width}, dtype);
  const Tensor delta = random_normal("delta", {num_tokens, width}, dtype);
  const Tensor weight = random_normal("weight", {width}, DType::f32);
  const Tensor y = over == Over::second ? x : Tensor::empty_like(x);
  const Tensor sum = over == Over::first ? delta : Tensor::empty_like(x);
  const Tensor inverse_rms = Tensor::empty({num_tokens}, DType::f32);
  kernels::rms_norm(launch(), {.x = matrix_of(x),
                               .delta = with_delta ? matrix_of(delta) : ConstMatrix(),
                               .sum = with_delta ? matrix_of(sum) : Matrix(),
                               .weight = weight.data(),
                               .y = matrix_of(y),
                               .inverse_rms = inverse_rms.data(),
                               .epsilon = kEpsilon});
  std::vector<Result> results{{"y", y, {.sum_length = width}},
                              {"inverse_rms", inverse_rms, {.sum_length = width}}};
  if (with_delta) results.push_back({"sum", sum});
  return results;
}

std::vector<Result> backward(const Sizes& sizes, DType dtype, bool with_dsum, double beta,
                             Over over) {
  const auto [num_tokens, width] = sizes;
  const Tensor x = random_normal("x", {num_tokens, width}, dtype);
  const Tensor dy = random_normal("dy", {num_tokens, width}, dtype);
  const Tensor dsum = random_normal("dsum", {num_tokens, width}, dtype);
  const Tensor weight = random_normal("weight", {width}, DType::f32);
  const Tensor inverse_rms = Tensor::empty({num_tokens}, DType::f32);
  kernels::rms_norm(launch(), {.x = matrix_of(x),
                               .delta = {},
                               .sum = {},
                               .weight = weight.data(),
                               .y = matrix_of(Tensor::empty_like(x)),
                               .inverse_rms = inverse_rms.data(),
                               .epsilon = kEpsilon});
  const Tensor dx = over == Over::none ? Tensor::empty_like(x) : over == Over::first ? dy : dsum;
  const Tensor dweight =
      beta == 0 ? Tensor::empty_like(weight) : random_normal("dweight", {width}, DType::f32);
  kernels::RmsNormBackwardArgs args{.x = matrix_of(x),
                                    .inverse_rms = inverse_rms.data(),
                                    .weight = weight.data(),
                                    .dy = matrix_of(dy),
                                    .dsum = with_dsum ? matrix_of(dsum) : ConstMatrix(),
                                    .dx = matrix_of(dx),
                                    .dweight = dweight.data(),
                                    .beta = beta};
  const Tensor workspace =
      Tensor::empty({kernels::rms_norm_backward_workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = workspace.data();
  kernels::rms_norm_backward(launch(), args);
  return {{"dx", dx, {.sum_length = width}}, {"dweight", dweight, {.sum_length = num_tokens + 1}}};
}

std::string describe(const char* what, const Sizes& sizes, DType dtype) {
  return concat(what, " [", sizes.num_tokens, ", ", sizes.width, "] ", name_of(dtype));
}

}  // namespace

TEST_CASE("rms_norm on the GPU agrees with the CPU's") {
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : kDtypes) {
      const std::string name = describe("rms_norm", sizes, dtype);
      check_on_gpu(name, [&] { return forward(sizes, dtype, false, Over::none); });
      check_on_gpu(name + " in place", [&] { return forward(sizes, dtype, false, Over::second); });
      check_on_gpu(name + " + delta", [&] { return forward(sizes, dtype, true, Over::none); });
      check_on_gpu(name + " over delta", [&] { return forward(sizes, dtype, true, Over::first); });
    }
}

TEST_CASE("rms_norm_backward on the GPU agrees with the CPU's") {
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : kDtypes) {
      const std::string name = describe("rms_norm_backward", sizes, dtype);
      check_on_gpu(name, [&] { return backward(sizes, dtype, false, 0, Over::none); });
      check_on_gpu(name + " beta 1 over dy",
                   [&] { return backward(sizes, dtype, true, 1, Over::first); });
      check_on_gpu(name + " over dsum",
                   [&] { return backward(sizes, dtype, true, 0, Over::second); });
    }
}
