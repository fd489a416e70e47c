// Cases of kernels/combine.h on the current stream.
#pragma once
#include "autograd/ops/run_kernel.h"
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

  struct Gradients {
    Tensor dgates, dy, dbias;
  };
  /// Of grouped rows, dy over a copy of y; dbias as a second pass adds it to that of a first.
  Gradients backward() const { return backward(gates.dtype()); }
  Gradients backward(DType dbias_dtype) const {
    Gradients g{Tensor::empty_like(gates), y.clone(Category::activations),
                Tensor::empty({test.num_experts, test.d}, dbias_dtype)};
    for (const double beta : {0.0, 1.0}) {
      g.dy.copy_from(y);
      run_kernel(kernels::combine_backward, kernels::combine_backward_workspace_bytes,
                 {.routing = view_of(plan),
                  .y = matrix_of(g.dy),
                  .dout = matrix_of(dout),
                  .gates = gates.data(),
                  .dgates = g.dgates.data(),
                  .dy = matrix_of(g.dy),
                  .dbias_dtype = dbias_dtype,
                  .dbias = g.dbias.data(),
                  .bias_beta = beta});
    }
    return g;
  }

  MoeCase test;
  kernels::RowLayout layout;
  RoutingPlan plan;
  Tensor y, dout, gates;
};

}  // namespace smoe::test
