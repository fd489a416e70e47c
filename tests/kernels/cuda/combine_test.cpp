#include "kernels/combine.h"

#include <doctest/doctest.h>

#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

TEST_CASE("combine and the gates' gradient on the GPU agree with the CPU's") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    for (const RowLayout layout : {RowLayout::grouped, RowLayout::scattered})
      check_on_gpu(concat(test.name(), " ", name_of(dtype)), [&] {
        const RoutingPlan plan = test.plan();
        const Tensor y = random_normal("y", {plan.num_rows(), test.d}, dtype);
        const Tensor dout = random_normal("dout", {test.num_tokens, test.d}, dtype);
        const Tensor gates = random_normal("gates", {test.num_tokens, test.top_k}, DType::f32);
        std::vector<Result> results;
        for (const bool gated : {false, true}) {
          const Tensor out = Tensor::empty({test.num_tokens, test.d}, dtype);
          kernels::combine(launch(), {view_of(plan),
                                      {matrix_of(y), layout},
                                      gated ? gates.data() : nullptr,
                                      matrix_of(out)});
          results.push_back({gated ? "out, gated" : "out", out, {.sum_length = test.top_k}});
        }
        const Tensor dgates = Tensor::empty_like(gates);
        kernels::combine_gates_backward(
            launch(), {view_of(plan), {matrix_of(y), layout}, matrix_of(dout), dgates.data()});
        results.push_back({"dgates", dgates, {.sum_length = test.d}});
        return results;
      });
  });
}
