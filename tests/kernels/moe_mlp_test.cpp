#include "kernels/moe_mlp.h"

#include <doctest/doctest.h>

#include "tests/kernels/moe_mlp_cases.h"
#include "tests/support/activations.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

void check_case(const MoeCase& test, kernels::Activation kind, const reference::Act& act,
                DType dtype) {
  const MoeMlpCase s(test, kind, dtype);
  const auto routed = test.routed();
  const auto grouped = [&](const std::vector<double>& pairs) {
    return to_layout(pairs, s.plan, RowLayout::grouped);
  };
  const Tensor h = s.empty(s.width), a = s.empty(test.f);
  s.up(h, a);
  const auto h_wanted =
      reference::project(routed, values_of(s.x), values_of(s.w1), {}, test.d, s.width);
  check_close("h: " + test.name(), h, grouped(h_wanted), {.sum_length = test.d});

  // From here on the reference starts from the stored h.
  const auto h_stored = from_layout(values_of(h), s.plan, RowLayout::grouped);
  const auto m = reference::mlp_from_h(routed, h_stored, values_of(s.gates), values_of(s.w2),
                                       values_of(s.dout), test.d, test.f, act);
  check_close("a: " + test.name(), a, grouped(m.a));

  const Tensor a_without_h = s.empty(test.f);
  s.up(Tensor(), a_without_h);
  check_same_bits("a without a stored h", a_without_h, a);

  const Tensor a_recomputed = s.empty(test.f), dgates = Tensor::empty_like(s.gates);
  s.down_backward(h, a_recomputed, dgates);
  check_same_bits("a recomputed from h", a_recomputed, a);
  check_close("dh: " + test.name(), h, grouped(m.dh), {.sum_length = test.d});
  // A gate's gradient is a sum of products of three factors that may cancel, so its rounding error
  // is bounded by the largest product, not by the largest sum.
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

TEST_CASE("the fused expert GEMMs agree with plain loops") {
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
      check_thread_independence("moe_mlp", [&, kind = kind] {
        const MoeMlpCase s({300, 2, 4, 40, 300}, kind, dtype);
        const Tensor h = s.empty(s.width), a = s.empty(s.test.f);
        s.up(h, a);
        const Tensor dh = h.clone(Category::activations), a_recomputed = s.empty(s.test.f);
        const Tensor dgates = Tensor::empty_like(s.gates);
        s.down_backward(dh, a_recomputed, dgates);
        return std::vector{h, a, dh, a_recomputed, dgates};
      });
}
