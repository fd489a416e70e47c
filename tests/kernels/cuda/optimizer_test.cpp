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

/// How the masters, gradient and moments of a step are held.
struct Form {
  bool is_split;
  DType gradient, moments;
};
constexpr Form kForms[] = {{false, DType::f32, DType::f32},  {false, DType::f32, DType::bf16},
                           {true, DType::f32, DType::f32},   {true, DType::f32, DType::bf16},
                           {false, DType::bf16, DType::f32}, {false, DType::bf16, DType::bf16},
                           {true, DType::bf16, DType::f32},  {true, DType::bf16, DType::bf16}};

Tensor in_dtype(const Tensor& x, DType dtype) {
  return tensor_of(values_of(x), x.shape(), dtype);
}

std::vector<Result> step(const std::vector<kernels::AdamwRange>& ranges, std::int64_t size,
                         const Form& form, double gradient_scale) {
  AdamwBuffers buffers{.weights = random_normal("w", {size}, DType::f32),
                       .remainders = {},
                       .gradient = random_normal("g", {size}, form.gradient),
                       .m = in_dtype(random_normal("m", {size}, DType::f32), form.moments),
                       .v = in_dtype(uniform_squares({size}), form.moments)};
  if (form.is_split) {
    const SplitMasters halves = run_split_masters(buffers.weights);
    buffers.weights = halves.weights;
    buffers.remainders = halves.remainders;
  }
  const Tensor scale = tensor_of({gradient_scale}, {1}, DType::f64);
  kernels::AdamwArgs args = buffers.args(ranges);
  args.step = 3;
  args.gradient_scale = scale.data_as<double>();
  kernels::adamw(launch(), args);
  const Tensor masters =
      form.is_split ? run_join_masters(buffers.weights, buffers.remainders) : buffers.weights;
  return {{"masters", masters, {.sum_length = 4}}, {"m", buffers.m}, {"v", buffers.v}};
}

/// In all forms.
void check_step(const std::string& what, const std::vector<kernels::AdamwRange>& ranges,
                std::int64_t size, double gradient_scale) {
  for (const Form& form : kForms)
    check_on_gpu(concat(what, form.is_split ? ", split" : "", ", gradient ", name_of(form.gradient),
                        ", moments ", name_of(form.moments)),
                 [&] { return step(ranges, size, form, gradient_scale); });
}

}  // namespace

TEST_CASE("adamw on the GPU agrees with the CPU's and only writes to its ranges") {
  check_step("no range", {}, 5, 1);
  check_step("one element", adamw_ranges({{0, 1, 0.1}}), 1, 0.5);
  check_step("tails and gaps",
             adamw_ranges({{0, 3, 0.1}, {64, 2048, 0}, {2112, 2049, 0.3}, {4992, 8, 0.2}}), 5002,
             0.5);
  check_step("unaligned ranges", adamw_ranges({{1, 999, 0.1}, {1003, 4000, 0}}), 5010, 2);
  // A remainder belongs to the weight at its own index, so only the gradient is elsewhere.
  check_step("ranges apart", {{64, 0, 64, 1000, 0.1}, {2048, 1064, 2048, 3000, 0}}, 5100, 1);
  std::vector<FlatRange> many;
  for (int i = 0; i < 200; ++i) many.push_back({i * 64, 1 + i % 64, 0.01 * i});
  check_step("many ranges", adamw_ranges(many), 200 * 64, 1);
}

TEST_CASE("masters in halves on the GPU train the bits that masters in one piece train") {
  const StreamGuard guard(gpu_stream());
  for (const auto& [is_split, gradient, moments] : kForms)
    for (const std::int64_t size : {1, 4096, 40'003}) {
      if (is_split) continue;  // both are trained
      const MastersAndMoments whole = train_masters(false, gradient, moments, size, 10),
                              halves = train_masters(true, gradient, moments, size, 10);
      check_same_bits("masters", halves.masters, whole.masters);
      check_same_bits("m", halves.m, whole.m);
      check_same_bits("v", halves.v, whole.v);
    }
}

TEST_CASE("masters in halves on the GPU have the bits of the CPU's, for any f32") {
  const SplitMasters wanted = run_split_masters(masters_with_all_remainders());
  const Tensor joined = run_join_masters(wanted.weights, wanted.remainders);
  const Tensor rounded = run_join_masters(wanted.weights, {});
  const StreamGuard guard(gpu_stream());
  const SplitMasters got = run_split_masters(masters_with_all_remainders());
  check_same_bits("weights", got.weights, wanted.weights);
  check_same_bits("remainders", got.remainders, wanted.remainders);
  check_same_bits("masters", run_join_masters(got.weights, got.remainders), joined);
  check_same_bits("rounded masters", run_join_masters(got.weights, {}), rounded);
}

TEST_CASE("a gradient that overflowed changes no weight on the GPU") {
  const StreamGuard guard(gpu_stream());
  for (const Form& form : kForms) check_overflowed_step(form.is_split, form.gradient, form.moments);
}

TEST_CASE("the global norm and its clipping on the GPU agree with the CPU's") {
  for (const std::int64_t n : {0, 1, 3, 16384, 16385, 3000000})
    for (const double max_norm : {0.0, 1.0, 1e9})
      check_on_gpu(concat("sum_of_squares of ", n, " max norm ", max_norm), [&] {
        const DType dtype = max_norm == 1 ? DType::bf16 : DType::f32;
        const Tensor x = random_normal("x", {n}, dtype, n == 3 ? 1e30 : 1);
        const Tensor sum = run_sum_of_squares(x);
        const auto [norm, coefficient] = run_clip_coefficient(sum, max_norm);
        const Closeness closeness{.sum_length = n + 1};
        return std::vector<Result>{{"sum", sum, closeness},
                                   {"norm", norm, closeness},
                                   {"coefficient", coefficient, closeness}};
      });
  const StreamGuard guard(gpu_stream());
  check_clipping_of_nonfinite_norms();
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
  check_nonfinite_losses();
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
