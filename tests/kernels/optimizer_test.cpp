#include "kernels/optimizer.h"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>

#include "tests/kernels/optimizer_cases.h"
#include "tests/reference/adamw.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

AdamwBuffers buffers(std::int64_t size, DType dtype) {
  return {.weights = random_normal("weights", {size}, dtype),
          .remainders = {},
          .gradient = random_normal("gradient", {size}, dtype),
          .m = Tensor::zeros({size}, dtype),
          .v = Tensor::zeros({size}, dtype)};
}

std::vector<Tensor> outputs(const AdamwBuffers& a) {
  return {a.weights, a.m, a.v};
}

Tensor sum_of_squares(const Tensor& x) {
  const PoisonGuard poison;
  return run_sum_of_squares(x);
}

std::array<double, 2> norm_and_coefficient(double sum_of_squares, double max_norm) {
  const auto [norm, coefficient] =
      run_clip_coefficient(tensor_of({sum_of_squares}, {1}, DType::f64), max_norm);
  return {norm.item(), coefficient.item()};
}

}  // namespace

TEST_CASE("adamw follows the double reference over many steps, each range with its weight decay") {
  const std::int64_t size = 40'000;  // more than one block
  const std::vector<kernels::AdamwRange> ranges = adamw_ranges(
      {{0, 1, 0.1}, {1, 0, 0.3}, {3, 16'381, 0.0}, {16'384, 1000, 0.5}, {20'001, 19'998, 0.1}});
  std::vector<double> decay(size, 0);
  std::vector<bool> covered(size, false);
  for (const auto& range : ranges)
    for (std::int64_t i = range.moment; i < range.moment + range.numel; ++i) {
      decay[i] = range.weight_decay;
      covered[i] = true;
    }
  for (const DType dtype : {DType::f32, DType::f64}) {
    const AdamwBuffers a = buffers(size, dtype);
    const std::vector<double> before = values_of(a.weights);
    reference::Adamw wanted(0.9, 0.95, 1e-8, before);
    const int steps = 20;
    const double scale = 0.25;
    for (int t = 1; t <= steps; ++t) {
      const Tensor gradient = random_normal("gradient" + std::to_string(t), {size}, dtype);
      kernels::AdamwArgs args = a.args(ranges);
      args.gradient = gradient.data();
      args.lr = 0.01 * t;
      args.step = t;
      args.gradient_scale = &scale;
      kernels::adamw(launch(), args);
      std::vector<double> scaled = values_of(gradient);
      for (double& value : scaled) value *= scale;
      wanted.step(t, 0.01 * t, scaled, decay);
    }
    for (std::int64_t i = 0; i < size; ++i) {
      if (covered[i]) continue;
      wanted.weights[i] = before[i];
      wanted.m[i] = wanted.v[i] = 0;
    }
    check_close("weights", a.weights, wanted.weights, {.sum_length = steps});
    check_close("m", a.m, wanted.m, {.sum_length = steps});
    check_close("v", a.v, wanted.v, {.sum_length = steps});
  }
}

TEST_CASE("adamw finds each range where it is in each buffer") {
  const std::vector<kernels::AdamwRange> ranges = {{20'050, 0, 0, 30, 0.1}, {0, 41, 30, 20'000, 0}};
  const std::int64_t size = 20'100;
  const AdamwBuffers apart = buffers(size, DType::f32), whole = buffers(size, DType::f32);
  kernels::adamw(launch(), apart.args(ranges));
  for (const auto& [weight, gradient, moment, numel, decay] : ranges) {
    const auto at = [numel = numel](const Tensor& buffer, std::int64_t offset) {
      return buffer.view(offset, {numel}).clone(Category::activations);
    };
    const AdamwBuffers part{.weights = at(whole.weights, weight),
                            .remainders = {},
                            .gradient = at(whole.gradient, gradient),
                            .m = at(whole.m, moment),
                            .v = at(whole.v, moment)};
    kernels::adamw(launch(), part.args(adamw_ranges({{0, numel, decay}})));
    check_same_bits("weights", at(apart.weights, weight), part.weights);
    check_same_bits("m", at(apart.m, moment), part.m);
    check_same_bits("v", at(apart.v, moment), part.v);
  }
}

TEST_CASE("masters in halves: the nearest bf16, ties away from zero, and all bits, of any f32") {
  const Tensor masters = masters_with_all_remainders();
  const auto [weights, remainders] = run_split_masters(masters);
  const auto before = masters.to_vector<float>();
  const auto halves = weights.to_vector<bf16>();
  const auto after = run_join_masters(weights, remainders).to_vector<float>();
  int num_wrong = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(before[i]);
    if (std::isnan(before[i])) {
      num_wrong += !(std::isnan(after[i]) && std::isnan(static_cast<float>(halves[i])));
      continue;
    }
    const bool is_tie = (bits & 0xffffu) == 0x8000u;
    const std::uint32_t nearest = is_tie ? (bits >> 16) + 1 : std::uint32_t{bf16(before[i]).bits};
    num_wrong += halves[i].bits != nearest || std::bit_cast<std::uint32_t>(after[i]) != bits;
  }
  CHECK(num_wrong == 0);
  check_same_bits("weights alone",
                  run_join_masters(weights, Tensor::zeros(masters.shape(), DType::u16)),
                  run_join_masters(weights, {}));
}

TEST_CASE("masters in halves train the bits that masters in one piece train") {
  for (const DType gradient : {DType::f32, DType::bf16})
    for (const DType moments : {DType::f32, DType::bf16}) {
      const MastersAndMoments whole = train_masters(false, gradient, moments, 40'003, 10),
                              halves = train_masters(true, gradient, moments, 40'003, 10);
      check_same_bits("masters", halves.masters, whole.masters);
      check_same_bits("m", halves.m, whole.m);
      check_same_bits("v", halves.v, whole.v);
    }
}

TEST_CASE("adamw of a bf16 gradient has the bits of an f32 gradient of the same values") {
  const std::int64_t size = 40'003;
  const auto ranges = adamw_ranges({{0, 16'381, 0.1}, {16'400, 23'000, 0}});
  const AdamwBuffers wanted = buffers(size, DType::f32);
  AdamwBuffers got = buffers(size, DType::f32);
  got.gradient = random_normal("gradient", {size}, DType::bf16);
  kernels::AdamwArgs args = wanted.args(ranges);
  const Tensor widened = tensor_of(values_of(got.gradient), {size}, DType::f32);
  args.gradient = widened.data();
  const double scale = 0.3;
  args.gradient_scale = &scale;
  kernels::adamw(launch(), args);
  args = got.args(ranges);
  args.gradient_scale = &scale;
  kernels::adamw(launch(), args);
  check_same_bits("weights", got.weights, wanted.weights);
  check_same_bits("m", got.m, wanted.m);
  check_same_bits("v", got.v, wanted.v);
}

TEST_CASE("with bf16 moments each step is the double reference's, whose moments are then rounded") {
  const std::int64_t size = 20'000;
  AdamwBuffers a = buffers(size, DType::f32);
  a.m = Tensor::zeros({size}, DType::bf16);
  a.v = Tensor::zeros({size}, DType::bf16);
  const auto ranges = adamw_ranges({{0, size, 0.1}});
  const std::vector<double> decay(size, 0.1);
  for (int t = 1; t <= 20; ++t) {
    reference::Adamw wanted(0.9, 0.95, 1e-8, values_of(a.weights));
    wanted.m = values_of(a.m);
    wanted.v = values_of(a.v);
    a.gradient = random_normal("gradient" + std::to_string(t), {size}, DType::f32);
    kernels::AdamwArgs args = a.args(ranges);
    args.step = t;
    kernels::adamw(launch(), args);
    wanted.step(t, 0.01, values_of(a.gradient), decay);
    check_close("weights", a.weights, wanted.weights, {.sum_length = 4});
    check_close("m", a.m, wanted.m);
    check_close("v", a.v, wanted.v);
  }
}

TEST_CASE("adamw refuses dtypes that do not go together") {
  const auto message = [](DType dtype, DType gradient, DType moments, bool is_split) {
    AdamwBuffers a = buffers(8, dtype);
    a.gradient = Tensor::zeros({8}, gradient);
    a.m = a.v = Tensor::zeros({8}, moments);
    if (is_split) a.remainders = Tensor::zeros({8}, DType::u16);
    try {
      kernels::adamw(launch(), a.args(adamw_ranges({{0, 8, 0}})));
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string rule =
      "adamw: dtype must be f32, with gradient and moments in f32 or bf16, or f64 unsplit; got ";
  const DType f32 = DType::f32, f64 = DType::f64;
  CHECK(message(f64, f64, DType::bf16, false) == rule + "f64, gradient in f64, moments in bf16");
  CHECK(message(f64, f64, f64, true) == rule + "f64 split, gradient in f64, moments in f64");
  CHECK(message(f32, f32, f64, false) == rule + "f32, gradient in f32, moments in f64");
  CHECK(message(f64, DType::bf16, f64, false) == rule + "f64, gradient in bf16, moments in f64");
  CHECK(message(f32, f64, f32, false) == rule + "f32, gradient in f64, moments in f32");
}

TEST_CASE("adamw writes nothing if the gradient scale is not finite") {
  for (const DType moments : {DType::f32, DType::bf16})
    for (const bool is_split : {false, true}) {
      check_overflowed_step(is_split, DType::f32, moments);
      check_overflowed_step(is_split, DType::bf16, moments);
    }
}

TEST_CASE("adamw and the sum of squares give the same bits for any number of threads") {
  const std::int64_t size = 100'003;
  const auto ranges = adamw_ranges({{0, 50'001, 0.1}, {50'001, 50'002, 0}});
  for (const DType dtype : {DType::f32, DType::f64})
    check_thread_independence("optimizer", [&] {
      const AdamwBuffers a = buffers(size, dtype);
      kernels::adamw(launch(), a.args(ranges));
      std::vector<Tensor> all = outputs(a);
      all.push_back(sum_of_squares(a.gradient));
      return all;
    });
}

TEST_CASE("the sum of squares agrees with a plain loop and is not finite if an element is not") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const std::int64_t size : {0, 1, 7, 16'384, 16'385, 50'000}) {
      const Tensor x = random_normal("x", {size}, dtype);
      long double sum = 0;
      for (const double value : values_of(x)) sum += static_cast<long double>(value) * value;
      check_close("sum of squares", sum_of_squares(x), {static_cast<double>(sum)},
                  {.sum_length = size + 1});
    }
  const std::int64_t size = 20'000;
  for (const std::int64_t at : {std::int64_t{0}, std::int64_t{16'383}, size - 1})
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      const Tensor x = Tensor::zeros({size}, DType::f32);
      x.data_as<float>()[at] = bad;
      CHECK(!std::isfinite(sum_of_squares(x).item()));
    }
  // Squares that overflow f32.
  const Tensor large = tensor_of({3e30, 4e30}, {2}, DType::f32);
  CHECK(std::sqrt(sum_of_squares(large).item()) == doctest::Approx(5e30).epsilon(1e-6));
}

TEST_CASE("the clip coefficient is the smaller of one and max_norm over norm") {
  CHECK(norm_and_coefficient(25, 10) == std::array<double, 2>{5, 1});
  CHECK(norm_and_coefficient(25, 5) == std::array<double, 2>{5, 1});
  CHECK(norm_and_coefficient(25, 1) == std::array<double, 2>{5, 0.2});
  CHECK(norm_and_coefficient(25, 0) == std::array<double, 2>{5, 1});
  CHECK(norm_and_coefficient(0, 1) == std::array<double, 2>{0, 1});
  check_clipping_of_nonfinite_norms();
}

TEST_CASE("a loss that is not finite makes the clip coefficient NaN") {
  check_nonfinite_losses();
}

TEST_CASE("the sum of squares of several ranges is that of each by itself") {
  const Tensor x = random_normal("x", {50'000}, DType::f32);
  const std::vector<kernels::ElementRange> ranges{{0, 16'384}, {16'384, 0}, {16'400, 20'001}};
  const std::vector<double> sums = values_of(run_sum_of_squares(x, ranges));
  for (std::size_t i = 0; i < ranges.size(); ++i)
    CHECK(sums[i] == sum_of_squares(x.view(ranges[i].offset, {ranges[i].numel})).item());
}

TEST_CASE("a sequential sum adds from left to right") {
  CHECK(run_sequential_sum(tensor_of({1, 0x1p53, 1, -0x1p53}, {4}, DType::f64)).item() == 0);
  CHECK(run_sequential_sum(tensor_of({0x1p53, -0x1p53, 1, 1}, {4}, DType::f64)).item() == 2);
  CHECK(run_sequential_sum(Tensor::empty({0}, DType::f64)).item() == 0);
}

TEST_CASE("the selection bias rises for experts below the mean load and falls above it") {
  const Tensor load = Tensor::from<double>({10, 20, 30, 20}, {4});
  const Tensor bias = tensor_of({0.5, 0.25, 0, -1}, {4}, DType::f32);
  run_update_selection_bias(bias, load, 0.125);
  CHECK(values_of(bias) == std::vector<double>{0.625, 0.25, -0.125, -1});
}
