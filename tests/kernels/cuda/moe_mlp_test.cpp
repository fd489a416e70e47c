#include "kernels/moe_mlp.h"

#include <doctest/doctest.h>

#include "tests/support/activations.h"
#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Setup {
  Setup(const MoeCase& c, kernels::Activation k, DType dtype)
      : test(c), kind(k), plan(c.plan()), width(preactivation_width(k, c.f)) {
    x = random_normal("x", {c.num_tokens, c.d}, dtype);
    gates = random_normal("gates", {c.num_tokens, c.top_k}, DType::f32);
    w1 = random_normal("w1", {c.num_experts, width, c.d}, dtype, 1 / std::sqrt(c.d));
    w2 = random_normal("w2", {c.num_experts, c.d, c.f}, dtype, 1 / std::sqrt(c.f));
    dout = random_normal("dout", {c.num_tokens, c.d}, dtype);
  }

  void up(const Tensor& h, const Tensor& a) const {
    run_kernel(kernels::expert_up, kernels::expert_up_workspace_bytes,
               {view_of(plan), matrix_of(x), experts_of(w1), kind, gates.data(),
                h.defined() ? matrix_of(h) : Matrix{}, matrix_of(a)});
  }
  void down_backward(const Tensor& h, const Tensor& a, const Tensor& dgates) const {
    run_kernel(kernels::expert_down_backward, kernels::expert_down_backward_workspace_bytes,
               {view_of(plan), matrix_of(dout), experts_of(w2), kind, gates.data(), matrix_of(h),
                matrix_of(a), dgates.data()});
  }
  Tensor empty(std::int64_t cols) const {
    return Tensor::empty({plan.num_rows(), cols}, x.dtype());
  }

  MoeCase test;
  kernels::Activation kind;
  RoutingPlan plan;
  std::int64_t width;
  Tensor x, gates, w1, w2, dout;
};

// h alone is compared here: activations of h's that rounded to different neighbours differ by more
// than a rounding. They are compared in backward, from one h.
std::vector<Result> run_up(const Setup& s) {
  const Tensor h = s.empty(s.width), a = s.empty(s.test.f), a_alone = s.empty(s.test.f);
  s.up(h, a);
  s.up(Tensor(), a_alone);
  check_same_bits("a without h kept", a_alone, a);
  const Tensor dh = h.clone(Category::activations), a_again = s.empty(s.test.f);
  s.down_backward(dh, a_again, Tensor::empty_like(s.gates));
  check_same_bits("a, from h again", a_again, a);
  return {{"h", h, {.sum_length = s.test.d}}};
}

std::vector<Result> run_backward(const Setup& s) {
  const std::int64_t d = s.test.d, f = s.test.f;
  const Tensor h = random_normal("h", {s.plan.num_rows(), s.width}, s.x.dtype());
  const Tensor a = s.empty(f), dgates = Tensor::empty_like(s.gates);
  // What rounds in a slope or a gate's gradient is measured by their largest products.
  const double u = unit_roundoff(DType::f32), largest_h = largest(values_of(h));
  const double da = largest(values_of(s.dout)) * largest(values_of(s.w2));
  const double dh = largest(values_of(s.gates)) * da * largest_h;
  s.down_backward(h, a, dgates);
  return {{"dh", h, {.sum_length = d, .slack = u * dh}},
          {"a", a},
          {"dgates", dgates, {.sum_length = d + f, .slack = u * largest_h * largest_h * da}}};
}

}  // namespace

TEST_CASE("fused expert products on the GPU agree with the CPU's") {
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
