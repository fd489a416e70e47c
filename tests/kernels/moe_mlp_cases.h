// Cases of kernels/moe_mlp.h on the current stream.
#pragma once
#include <cmath>

#include "autograd/ops/run_kernel.h"
#include "kernels/moe_mlp.h"
#include "tests/support/moe_cases.h"
#include "tests/support/tensors.h"

namespace smoe::test {

struct MoeMlpCase {
  MoeMlpCase(const MoeCase& c, kernels::Activation k, DType dtype)
      : test(c), kind(k), plan(c.plan()), width(preactivation_width(k, c.f)) {
    x = random_normal("x", {c.num_tokens, c.d}, dtype);
    gates = random_normal("gates", {c.num_tokens, c.top_k}, accumulation_dtype(dtype));
    w1 = random_normal("w1", {c.num_experts, width, c.d}, dtype, 1 / std::sqrt(c.d));
    w2 = random_normal("w2", {c.num_experts, c.d, c.f}, dtype, 1 / std::sqrt(c.f));
    dout = random_normal("dout", {c.num_tokens, c.d}, dtype);
  }

  /// Writes h [N, width] and a [N, F]. An undefined h is not kept.
  void up(const Tensor& h, const Tensor& a) const {
    run_kernel(kernels::expert_up, kernels::expert_up_workspace_bytes,
               {view_of(plan), matrix_of(x), experts_of(w1), kind, gates.data(),
                h.defined() ? matrix_of(h) : Matrix{}, matrix_of(a)});
  }
  /// Overwrites h by dh and writes a and dgates.
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

}  // namespace smoe::test
