#include "kernels/moe_mlp.h"

#include <doctest/doctest.h>

#include "core/device.h"
#include "tests/support/activations.h"
#include "tests/support/compare.h"
#include "tests/support/moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

struct Setup {
  Setup(const MoeCase& c, kernels::Activation k, const reference::Act& act, DType dtype)
      : test(c), kind(k), plan(c.plan()), width(act.width(c.f)) {
    x = random_normal("x", {c.num_tokens, c.d}, dtype);
    gates = random_normal("gates", {c.num_tokens, c.top_k}, accumulation_dtype(dtype));
    w1 = random_normal("w1", {c.num_experts, width, c.d}, dtype, 1 / std::sqrt(c.d));
    w2 = random_normal("w2", {c.num_experts, c.d, c.f}, dtype, 1 / std::sqrt(c.f));
    dout = random_normal("dout", {c.num_tokens, c.d}, dtype);
  }

  // h [N, width] and a [N, F]; h undefined where it shall not be kept.
  void up(const Tensor& h, const Tensor& a) const {
    kernels::ExpertUpArgs args{view_of(plan), matrix_of(x), {w1.data(), w1.dtype(), width, test.d},
                               kind,          gates.data(), h.defined() ? matrix_of(h) : Matrix{},
                               matrix_of(a)};
    const Tensor workspace =
        Tensor::empty({kernels::expert_up_workspace_bytes(launch(), args)}, DType::u8);
    args.workspace = workspace.data();
    kernels::expert_up(launch(), args);
  }

  void down_backward(const Tensor& h, const Tensor& a, const Tensor& dgates) const {
    kernels::ExpertDownBackwardArgs args{
        view_of(plan), matrix_of(dout), {w2.data(), w2.dtype(), test.d, test.f},
        kind,          gates.data(),    matrix_of(h),
        matrix_of(a),  dgates.data()};
    const Tensor workspace =
        Tensor::empty({kernels::expert_down_backward_workspace_bytes(launch(), args)}, DType::u8);
    args.workspace = workspace.data();
    kernels::expert_down_backward(launch(), args);
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

void check_case(const MoeCase& test, kernels::Activation kind, const reference::Act& act,
                DType dtype) {
  const Setup s(test, kind, act, dtype);
  const auto routed = test.routed();
  const auto grouped = [&](const std::vector<double>& pairs) {
    return to_layout(pairs, s.plan, RowLayout::grouped);
  };
  const Tensor h = s.empty(s.width), a = s.empty(test.f);
  s.up(h, a);
  const auto h_wanted =
      reference::project(routed, values_of(s.x), values_of(s.w1), {}, test.d, s.width);
  check_close("h: " + test.name(), h, grouped(h_wanted), {.sum_length = test.d});

  // From here on the reference starts from the very h that was stored.
  const auto h_stored = from_layout(values_of(h), s.plan, RowLayout::grouped);
  const auto m = reference::mlp_from_h(routed, h_stored, values_of(s.gates), values_of(s.w2),
                                       values_of(s.dout), test.d, test.f, act);
  check_close("a: " + test.name(), a, grouped(m.a));

  const Tensor a_alone = s.empty(test.f);
  s.up(Tensor(), a_alone);
  check_same_bits("a without h kept", a_alone, a);

  const Tensor a_again = s.empty(test.f), dgates = Tensor::empty_like(s.gates);
  s.down_backward(h, a_again, dgates);
  check_same_bits("a, from h again", a_again, a);
  check_close("dh: " + test.name(), h, grouped(m.dh), {.sum_length = test.d});
  // A gate's gradient is a sum of products of three numbers that may cancel, and the only one of
  // its kind: so what rounds is measured by the largest product, not by the largest sum.
  const std::vector<double> gates = values_of(s.gates);
  double alpha = 0;  // largest |act(h)|: a without its gate
  for (std::size_t i = 0; i < m.a.size(); ++i)
    alpha = std::max(alpha, std::abs(m.a[i] / gates[i / test.f]));
  const double product = alpha * largest(values_of(s.dout)) * largest(values_of(s.w2));
  check_close("dgates: " + test.name(), dgates, m.dgates,
              {.sum_length = test.d + test.f,
               .slack = unit_roundoff(accumulation_dtype(dgates.dtype())) * product});
}

}  // namespace

TEST_CASE("fused up-projection and down-projection's backward agree with plain loops") {
  const PoisonGuard poison;
  for (const auto& [kind, act] : activations())
    for (const DType dtype : kDtypes) {
      for (const MoeCase& test : moe_cases()) check_case(test, kind, act, dtype);
      for (const MoeCase& test : wide_moe_cases())
        if (kind == kernels::Activation::swiglu || test.num_tokens == 40)
          check_case(test, kind, act, dtype);
    }
}

TEST_CASE("the fused kernels' bits do not depend on the number of threads") {
  for (const auto& [kind, act] : activations())
    for (const DType dtype : kDtypes)
      check_thread_independence("moe_mlp", [&, kind = kind, act = act] {
        const Setup s({300, 2, 4, 40, 300}, kind, act, dtype);
        const Tensor h = s.empty(s.width), a = s.empty(s.test.f);
        s.up(h, a);
        const Tensor dh = h.clone(Category::activations), a_again = s.empty(s.test.f);
        const Tensor dgates = Tensor::empty_like(s.gates);
        s.down_backward(dh, a_again, dgates);
        return std::vector{h, a, dh, a_again, dgates};
      });
}
