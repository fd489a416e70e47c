#include "kernels/activation.h"

#include <doctest/doctest.h>

#include "kernels/cpu/math.h"
#include "tests/kernels/activation_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

// The f32 versions at a scalar.
float exp_f32(float x) {
  return kernels::cpu::exp(kernels::cpu::F32x8{} + x)[0];
}
float sigmoid_f32(float x) {
  return kernels::cpu::sigmoid(kernels::cpu::F32x8{} + x)[7];
}
kernels::cpu::Normal<float> normal_f32(float x) {
  const auto normal = kernels::cpu::standard_normal(kernels::cpu::F32x8{} + x);
  return {normal.cdf[3], normal.density[3]};
}

}  // namespace

TEST_CASE("vectorized functions are accurate over the whole range of f32") {
  for (double x = -87; x < 88; x += 0.0137) {
    const float at = static_cast<float>(x);
    const double wanted = std::exp(static_cast<double>(at));
    REQUIRE(std::abs(exp_f32(at) - wanted) <= 2 * 0x1p-23 * wanted);
  }
  for (double x = -13; x < 13; x += 0.0137) {
    const float at = static_cast<float>(x);
    const kernels::cpu::Normal<double> wanted =
        kernels::cpu::standard_normal(static_cast<double>(at));
    const auto got = normal_f32(at);
    const double tolerance = (6 + at * at / 2) * 0x1p-24;
    REQUIRE(std::abs(got.cdf - wanted.cdf) <= tolerance * wanted.cdf);
    REQUIRE(std::abs(got.density - wanted.density) <= tolerance * wanted.density);
  }
}

TEST_CASE("vectorized functions propagate NaNs and saturate") {
  CHECK(std::isnan(exp_f32(NAN)));
  CHECK(std::isnan(sigmoid_f32(NAN)));
  CHECK(std::isnan(normal_f32(NAN).cdf));
  CHECK(sigmoid_f32(1000.0f) == 1.0f);
  CHECK(sigmoid_f32(-1000.0f) < 1e-37f);
  CHECK(exp_f32(0) == 1.0f);
  CHECK(normal_f32(INFINITY).cdf == 1.0f);
}

TEST_CASE("activations and their backward agree with plain loops") {
  const PoisonGuard poison;
  for (const auto& [kind, act] : activations())
    for (const DType dtype : kDtypes)
      for (const auto& [n, f] : {std::pair{1, 1}, {0, 3}, {3, 0}, {5, 17}, {33, 40}, {2, 257}}) {
        const std::int64_t width = act.width(f);
        const ActivationCase test(kind, dtype, n, f);
        const auto h_values = values_of(test.h), da_values = values_of(test.da);
        std::vector<double> a(n * f), dh(n * width);
        for (int row = 0; row < n; ++row)
          for (int i = 0; i < f; ++i) {
            a[row * f + i] = act.at(&h_values[row * width], f, i);
            act.backward(&h_values[row * width], da_values[row * f + i], f, i, &dh[row * width]);
          }
        check_close("a", test.a, a);
        check_close("dh", test.dh, dh);
      }
}
