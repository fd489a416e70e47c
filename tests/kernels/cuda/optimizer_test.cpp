#include "kernels/optimizer.h"

#include <doctest/doctest.h>

#include "tests/kernels/optimizer_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

Tensor uniform_squares(const Shape& shape) {
  const Tensor x = random_normal("v", shape, DType::f32);
  std::vector<double> values = values_of(x);
  for (double& value : values) value *= value;
  return tensor_of(values, shape, DType::f32);
}

std::vector<Result> step(const std::vector<kernels::AdamwRange>& ranges, std::int64_t size,
                         bool with_compute, double gradient_scale) {
  const AdamwBuffers buffers{
      .weights = random_normal("w", {size}, DType::f32),
      .gradient = random_normal("g", {size}, DType::f32),
      .m = random_normal("m", {size}, DType::f32),
      .v = uniform_squares({size}),
      .compute = tensor_of(std::vector<double>(size, 7), {size}, DType::bf16)};
  const Tensor scale = tensor_of({gradient_scale}, {1}, DType::f64);
  kernels::AdamwArgs args = buffers.args(ranges);
  if (!with_compute) args.compute_bf16 = nullptr;
  args.step = 3;
  args.gradient_scale = scale.data_as<double>();
  kernels::adamw(launch(), args);
  return {{"master", buffers.weights, {.sum_length = 4}},
          {"m", buffers.m},
          {"v", buffers.v},
          {"compute", buffers.compute, {.sum_length = 4}}};
}

}  // namespace

TEST_CASE("adamw on the GPU agrees with the CPU's and only writes to its ranges") {
  check_on_gpu("no range", [] { return step({}, 5, true, 1); });
  check_on_gpu("one element", [] { return step({{0, 1, 0.1}}, 1, true, 0.5); });
  check_on_gpu("tails and gaps", [] {
    return step({{0, 3, 0.1}, {64, 2048, 0}, {2112, 2049, 0.3}, {4992, 8, 0.2}}, 5002, true, 0.5);
  });
  check_on_gpu("unaligned ranges", [] {
    return step({{1, 999, 0.1}, {1003, 4000, 0}}, 5010, false, 2);
  });
  check_on_gpu("many ranges", [] {
    std::vector<kernels::AdamwRange> ranges;
    for (int i = 0; i < 200; ++i) ranges.push_back({i * 64, 1 + i % 64, 0.01 * i});
    return step(ranges, 200 * 64, true, 1);
  });
}

TEST_CASE("a gradient that overflowed changes no weight on the GPU") {
  const StreamGuard guard(gpu_stream());
  for (const double scale : {double(NAN), double(INFINITY)}) {
    const auto results = step({{0, 3000, 0.1}}, 3000, true, scale);
    check_same_bits("master", results[0].tensor, random_normal("w", {3000}, DType::f32));
    check_same_bits("m", results[1].tensor, random_normal("m", {3000}, DType::f32));
  }
}

TEST_CASE("the global norm and its clipping on the GPU agree with the CPU's") {
  for (const std::int64_t n : {0, 1, 3, 16384, 16385, 3000000})
    for (const double max_norm : {0.0, 1.0, 1e9})
      check_on_gpu(concat("sum_of_squares of ", n, " max norm ", max_norm), [&] {
        const Tensor x = random_normal("x", {n}, DType::f32, n == 3 ? 1e30 : 1);
        const Tensor sum = run_sum_of_squares(x);
        const auto [norm, coefficient] = run_clip_coefficient(sum, max_norm);
        const Closeness closeness{.sum_length = n + 1};
        return std::vector<Result>{{"sum", sum, closeness},
                                   {"norm", norm, closeness},
                                   {"coefficient", coefficient, closeness}};
      });
  const StreamGuard guard(gpu_stream());
  const Tensor infinite = tensor_of({INFINITY}, {1}, DType::f64);
  const Tensor coefficient = run_clip_coefficient(infinite, 1).coefficient;
  CHECK(std::isnan(coefficient.item()));
}

TEST_CASE("sums of squares of many ranges, and losses that are not finite, on the GPU") {
  for (const std::int64_t unit : {8, 7})
    check_on_gpu(concat("unit ", unit), [&] {
      std::vector<kernels::ElementRange> ranges;
      for (std::int64_t i = 0; i < 70; ++i)
        ranges.push_back({i * 40 * unit, i == 3 ? 0 : 40 * unit - i});
      ranges.push_back({2800 * unit, 100'000});
      const Tensor x = random_normal("x", {2800 * unit + 100'000}, DType::f32);
      return std::vector<Result>{{"sums", run_sum_of_squares(x, ranges), {.sum_length = 100'000}}};
    });
  const StreamGuard guard(gpu_stream());
  const Tensor squares = tensor_of({25}, {1}, DType::f64);
  std::vector<double> losses(700, 1);
  CHECK(run_clip_coefficient(squares, 1, tensor_of(losses, {700}, DType::f64)).coefficient.item() ==
        0.2);
  losses[699] = NAN;
  CHECK(std::isnan(
      run_clip_coefficient(squares, 1, tensor_of(losses, {700}, DType::f64)).coefficient.item()));
}

TEST_CASE("a sequential sum on the GPU has the bits of the CPU's") {
  for (const std::int64_t n : {0, 1, 127, 128, 129, 5000}) {
    CAPTURE(n);
    const double wanted = run_sequential_sum(random_normal("x", {n}, DType::f64)).item();
    const StreamGuard guard(gpu_stream());
    CHECK(run_sequential_sum(random_normal("x", {n}, DType::f64)).item() == wanted);
  }
}

TEST_CASE("the selection bias on the GPU agrees with the CPU's") {
  for (const std::int64_t experts : {1, 5, 8, 300})
    check_on_gpu(concat("E ", experts), [&] {
      std::vector<double> rows(experts);
      for (std::int64_t e = 0; e < experts; ++e)
        rows[e] = static_cast<double>(e % 3 == 0 ? 100 : 50 * e);
      const Tensor load = Tensor::from(rows, {experts});
      const Tensor bias = random_normal("bias", {experts}, DType::f32);
      run_update_selection_bias(bias, load, 0.001);
      return std::vector<Result>{{"bias", bias}};
    });
}
