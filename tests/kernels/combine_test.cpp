#include "kernels/combine.h"

#include <doctest/doctest.h>

#include "core/device.h"
#include "tests/support/compare.h"
#include "tests/support/moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

TEST_CASE("combine and the gates' gradient agree with plain loops") {
  const PoisonGuard poison;
  std::vector<MoeCase> cases = moe_cases();
  cases.push_back({9, 2, 4, 600, 1});  // more columns than a chunk
  for (const MoeCase& test : cases)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const RowLayout layout : {RowLayout::grouped, RowLayout::scattered}) {
        const RoutingPlan plan = test.plan();
        const auto routed = test.routed();
        const DType acc = accumulation_dtype(dtype);
        const Tensor y = random_normal("y", {plan.num_rows(), test.d}, dtype);
        const Tensor dout = random_normal("dout", {test.num_tokens, test.d}, dtype);
        const Tensor gates = random_normal("gates", {test.num_tokens, test.top_k}, acc);
        const auto y_pairs = from_layout(values_of(y), plan, layout);
        for (const bool gated : {false, true}) {
          const Tensor out = Tensor::empty({test.num_tokens, test.d}, dtype);
          kernels::combine(launch(), {view_of(plan),
                                      {matrix_of(y), layout},
                                      gated ? gates.data() : nullptr,
                                      matrix_of(out)});
          const auto wanted = reference::sum_pairs(
              routed, y_pairs, gated ? values_of(gates) : std::vector<double>{}, test.d);
          check_close("combine: " + test.name(), out, wanted, {.sum_length = test.top_k});
        }
        const Tensor dgates = Tensor::empty({test.num_tokens, test.top_k}, acc);
        kernels::combine_gates_backward(
            launch(), {view_of(plan), {matrix_of(y), layout}, matrix_of(dout), dgates.data()});
        check_close("dgates: " + test.name(), dgates,
                    reference::gates_gradient(routed, y_pairs, values_of(dout), test.d),
                    {.sum_length = test.d});
      }
}

TEST_CASE("combine's bits do not depend on the number of threads") {
  const MoeCase test{300, 3, 4, 70, 1};
  const RoutingPlan plan = test.plan();
  const Tensor y = random_normal("y", {plan.num_rows(), test.d}, DType::f32);
  const Tensor gates = random_normal("gates", {test.num_tokens, test.top_k}, DType::f32);
  const Tensor dout = random_normal("dout", {test.num_tokens, test.d}, DType::f32);
  check_thread_independence("combine", [&] {
    const Tensor out = Tensor::empty({test.num_tokens, test.d}, DType::f32);
    const Tensor dgates = Tensor::empty_like(gates);
    const kernels::RoutedRows rows{matrix_of(y), RowLayout::grouped};
    kernels::combine(launch(), {view_of(plan), rows, gates.data(), matrix_of(out)});
    kernels::combine_gates_backward(launch(),
                                    {view_of(plan), rows, matrix_of(dout), dgates.data()});
    return std::vector{out, dgates};
  });
}
