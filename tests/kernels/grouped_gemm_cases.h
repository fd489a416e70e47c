// Cases of kernels/grouped_gemm.h on the current stream.
#pragma once
#include "kernels/grouped_gemm.h"
#include "tests/support/moe_cases.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// Layouts of input and output. A scattered input may have one row per token instead of per pair.
struct GroupedMode {
  kernels::RowLayout x, y;
  bool row_per_token = false;
};
inline constexpr GroupedMode kGroupedModes[] = {
    {kernels::RowLayout::grouped, kernels::RowLayout::grouped},
    {kernels::RowLayout::grouped, kernels::RowLayout::scattered},
    {kernels::RowLayout::scattered, kernels::RowLayout::grouped},
    {kernels::RowLayout::scattered, kernels::RowLayout::scattered},
    {kernels::RowLayout::scattered, kernels::RowLayout::grouped, true},
    {kernels::RowLayout::scattered, kernels::RowLayout::scattered, true}};

struct GroupedGemmCase {
  GroupedGemmCase(const MoeCase& c, const GroupedMode& m, DType dtype)
      : test(c), mode(m), plan(c.plan()) {
    x = random_normal("x", {mode.row_per_token ? c.num_tokens : plan.num_rows(), c.d}, dtype);
    dy = random_normal("dy", {plan.num_rows(), c.f}, dtype);
    w = random_normal("w", {c.num_experts, c.f, c.d}, dtype);
    bias = random_normal("bias", {c.num_experts, c.f}, dtype);
  }

  Tensor forward(bool with_bias) const {
    const Tensor y = Tensor::empty({plan.num_rows(), test.f}, x.dtype());
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = view_of(plan),
                .x = {matrix_of(x), mode.x},
                .weight = experts_of(w),
                .bias = with_bias ? matrix_of(bias) : Matrix{},
                .y = matrix_of(y),
                .y_layout = mode.y});
    return y;
  }

  /// dx in x's layout, one row per pair.
  Tensor backward() const {
    const Tensor dx = Tensor::empty({plan.num_rows(), test.d}, x.dtype());
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = view_of(plan),
                .x = {matrix_of(dy), mode.y},
                .weight = experts_of(w),
                .transpose_weight = true,
                .y = matrix_of(dx),
                .y_layout = mode.x});
    return dx;
  }

  /// dw = beta dw + dy^T x per expert, and db = beta db + column sums of dy.
  void gradients(const Tensor& dw, const Tensor& db, double beta) const {
    run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
               {.routing = view_of(plan),
                .dy = {matrix_of(dy), mode.y},
                .x = {matrix_of(x), mode.x},
                .dweight = dw.data(),
                .beta = beta,
                .dbias = db.data(),
                .bias_beta = beta});
  }
  Tensor empty_dw() const {
    return Tensor::empty({test.num_experts, test.f, test.d}, accumulation_dtype(x.dtype()));
  }
  Tensor empty_db() const {
    return Tensor::empty({test.num_experts, test.f}, accumulation_dtype(x.dtype()));
  }

  MoeCase test;
  GroupedMode mode;
  RoutingPlan plan;
  Tensor x, dy, w, bias;
};

struct GroupCase {
  GroupCase(const MoeCase& test, bool row_per_token, DType dtype) : plan(test.plan()) {
    x = random_normal("x", {row_per_token ? test.num_tokens : plan.num_rows(), test.d}, dtype);
    gates = random_normal("gates", {test.num_tokens, test.top_k}, accumulation_dtype(dtype));
  }

  Tensor run(bool gated) const {
    const Tensor grouped = Tensor::empty({plan.num_rows(), x.dim(1)}, x.dtype());
    kernels::group(launch(), {view_of(plan), matrix_of(x), gated ? gates.data() : nullptr,
                              matrix_of(grouped)});
    return grouped;
  }

  RoutingPlan plan;
  Tensor x, gates;
};

}  // namespace smoe::test
