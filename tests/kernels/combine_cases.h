// Cases of kernels/combine.h on the current stream.
#pragma once
#include "kernels/combine.h"
#include "tests/support/moe_cases.h"
#include "tests/support/tensors.h"

namespace smoe::test {

struct CombineCase {
  CombineCase(const MoeCase& moe_case, DType dtype, kernels::RowLayout layout)
      : test(moe_case), layout(layout), plan(test.plan()) {
    y = random_normal("y", {plan.num_rows(), test.d}, dtype);
    dout = random_normal("dout", {test.num_tokens, test.d}, dtype);
    gates = random_normal("gates", {test.num_tokens, test.top_k}, accumulation_dtype(dtype));
  }

  Tensor out(bool gated) const {
    const Tensor out = Tensor::empty({test.num_tokens, test.d}, y.dtype());
    kernels::combine(launch(), {.routing = view_of(plan),
                                .y = {matrix_of(y), layout},
                                .gates = gated ? gates.data() : nullptr,
                                .out = matrix_of(out)});
    return out;
  }

  Tensor dgates() const {
    const Tensor dgates = Tensor::empty_like(gates);
    kernels::combine_gates_backward(launch(), {.routing = view_of(plan),
                                               .y = {matrix_of(y), layout},
                                               .dout = matrix_of(dout),
                                               .dgates = dgates.data()});
    return dgates;
  }

  MoeCase test;
  kernels::RowLayout layout;
  RoutingPlan plan;
  Tensor y, dout, gates;
};

}  // namespace smoe::test
