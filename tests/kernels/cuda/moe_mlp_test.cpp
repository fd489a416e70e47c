#include "kernels/moe_mlp.h"

#include <doctest/doctest.h>

#include "tests/kernels/moe_mlp_cases.h"
#include "tests/support/activations.h"
#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// Compares only h: if two h round to different neighbors, their activations differ by more than one
// rounding. run_backward compares activations of the same h.
std::vector<Result> run_up(const MoeMlpCase& s) {
  const Tensor h = s.empty(s.width), a = s.empty(s.test.f), a_without_h = s.empty(s.test.f);
  s.up(h, a);
  s.up(Tensor(), a_without_h);
  check_same_bits("a without a stored h", a_without_h, a);
  const Tensor dh = h.clone(Category::activations), a_recomputed = s.empty(s.test.f);
  s.down_backward(dh, a_recomputed, Tensor::empty_like(s.gates));
  check_same_bits("a recomputed from h", a_recomputed, a);
  return {{"h", h, {.sum_length = s.test.d}}};
}

std::vector<Result> run_backward(const MoeMlpCase& s) {
  const std::int64_t d = s.test.d, f = s.test.f;
  const Tensor h = random_normal("h", {s.plan.num_rows(), s.width}, s.x.dtype());
  const Tensor a = s.empty(f), dgates = Tensor::empty_like(s.gates);
  // The rounding error of a derivative or a gate's gradient is bounded by the largest product.
  const double u = unit_roundoff(DType::f32), largest_h = largest(values_of(h));
  const double da = largest(values_of(s.dout)) * largest(values_of(s.w2));
  const double dh = largest(values_of(s.gates)) * da * largest_h;
  s.down_backward(h, a, dgates);
  return {{"dh", h, {.sum_length = d, .slack = u * dh}},
          {"a", a},
          {"dgates", dgates, {.sum_length = d + f, .slack = u * largest_h * largest_h * da}}};
}

}  // namespace

TEST_CASE("the fused expert GEMMs on the GPU agree with the CPU's") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    for (const auto& [kind, act] : activations()) {
      const std::string name =
          concat(test.name(), " ", name_of(dtype), " activation ", static_cast<int>(kind));
      check_on_gpu("up " + name, [&, kind = kind] { return run_up({test, kind, dtype}); });
      check_on_gpu("down backward " + name, [&, kind = kind] {
        return run_backward({test, kind, dtype});
      });
    }
  });
}

TEST_CASE("the fused expert GEMMs of random routings on the GPU agree with the CPU's") {
  for (std::int64_t i = 0; i < num_random_moe_cases(); ++i) {
    const MoeCase test = random_moe_case(i);
    const auto kind = activations()[i % activations().size()].first;
    const std::string name = concat(test.name(), " activation ", static_cast<int>(kind));
    check_on_gpu("up " + name, [&] { return run_up({test, kind, DType::bf16}); });
    check_on_gpu("down backward " + name, [&] { return run_backward({test, kind, DType::bf16}); });
  }
}

TEST_CASE("the fused expert GEMMs of many tiles on the GPU agree with the portable ones") {
  for (std::int64_t i = 0; i < num_many_tiles_moe_cases(); ++i) {
    const MoeCase test = many_tiles_moe_case(i);
    const auto kind = activations()[i % activations().size()].first;
    const std::string name = concat(test.name(), " activation ", static_cast<int>(kind));
    check_against_portable("up " + name, [&] { return run_up({test, kind, DType::bf16}); });
    check_against_portable("down backward " + name, [&] {
      return run_backward({test, kind, DType::bf16});
    });
  }
}
