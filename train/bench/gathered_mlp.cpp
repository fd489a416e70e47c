#include "train/bench/gathered_mlp.h"

#include <algorithm>

#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "core/device.h"
#include "kernels/combine.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/moe_mlp.h"

namespace smoe {
namespace {

kernels::RoutedRows in_groups(const Tensor& x) {
  return {matrix_of(x), RowLayout::grouped};
}

void dense_gemm(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b,
                const Tensor& c) {
  run_gemm({.a = matrix_of(a),
            .transpose_a = transpose_a,
            .b = matrix_of(b),
            .transpose_b = transpose_b,
            .c = matrix_of(c)});
}

Tensor expert_of(const Tensor& weight, std::int64_t e) {
  return weight.rows(e, e + 1).reshape({weight.dim(1), weight.dim(2)});
}

// [E, 2, F, D] as [E, 2F, D].
Tensor with_three_dims(const Tensor& weight) {
  return weight.rank() == 3
             ? weight
             : weight.reshape({weight.dim(0), weight.dim(1) * weight.dim(2), weight.dim(3)});
}

}  // namespace

RoutingPlan padded_plan(const RoutingPlan& plan, std::int64_t block) {
  const auto offsets = plan.expert_offsets.to_vector<std::int32_t>();
  std::vector<std::int32_t> pads;
  for (std::int64_t e = 0; e < plan.num_experts; ++e) {
    std::int64_t rows = offsets[e + 1] - offsets[e];
    const bool is_last = e + 1 == plan.num_experts;
    const auto is_padded = [&] {
      const auto num_rows = plan.num_rows() + static_cast<std::int64_t>(pads.size());
      return rows % block == 0 && (!is_last || num_rows % plan.top_k == 0);
    };
    for (; !is_padded(); ++rows) pads.push_back(static_cast<std::int32_t>(e));
  }
  if (pads.empty()) return plan;
  const std::int64_t num_tokens =
      plan.num_tokens + static_cast<std::int64_t>(pads.size()) / plan.top_k;
  const Tensor ids = Tensor::empty({num_tokens, plan.top_k}, DType::i32, Category::workspace);
  ids.rows(0, plan.num_tokens).copy_from(plan.expert_ids);
  ids.rows(plan.num_tokens, num_tokens)
      .copy_from(
          Tensor::from(pads, {num_tokens - plan.num_tokens, plan.top_k}, Category::workspace));
  return plan_routing(ids, plan.num_experts);
}

Tensor extended(const Tensor& x, const RoutingPlan& plan) {
  if (x.dim(0) == plan.num_tokens) return x;
  const Tensor whole = Tensor::empty({plan.num_tokens, x.dim(1)}, x.dtype(), Category::activations);
  whole.rows(0, x.dim(0)).copy_from(x);
  whole.rows(x.dim(0), plan.num_tokens).fill_zero();
  return whole;
}

GatheredMlp::GatheredMlp(const RoutingPlan& plan, const Tensor& w1, const Tensor& w2,
                         Activation kind, bool loops)
    : plan_(plan), w1_(with_three_dims(w1)), w2_(w2), kind_(kind), loops_(loops) {}

Tensor GatheredMlp::forward(const Tensor& x, const Tensor& gates, bool trains) {
  const std::int64_t num_rows = plan_.num_rows();
  if (loops_) read_counts();
  Tensor rows = Tensor::empty({num_rows, x.dim(1)}, x.dtype());
  kernels::group(launch(),
                 {.routing = view_of(plan_), .x = matrix_of(x), .grouped = matrix_of(rows)});
  Tensor h = Tensor::empty({num_rows, w1_.dim(1)}, x.dtype());
  multiply(rows, w1_, false, h);
  Tensor a = Tensor::empty({num_rows, w2_.dim(2)}, x.dtype());
  kernels::activation_forward(launch(), {kind_, matrix_of(h), matrix_of(a)});
  if (!trains) h = rows = Tensor();
  Tensor y = Tensor::empty({num_rows, x.dim(1)}, x.dtype());
  multiply(a, w2_, false, y);
  Tensor out = Tensor::empty_like(x);
  kernels::combine(
      launch(),
      {.routing = view_of(plan_), .y = in_groups(y), .gates = gates.data(), .out = matrix_of(out)});
  if (trains) rows_ = rows, h_ = h, a_ = a, y_ = y;
  return out;
}

Tensor GatheredMlp::backward(const Tensor& dout, const Tensor& gates, const Tensor& dgates,
                             const WeightGradient& dw1, const WeightGradient& dw2) {
  const std::int64_t num_rows = plan_.num_rows();
  kernels::combine_gates_backward(launch(), {.routing = view_of(plan_),
                                             .y = in_groups(y_),
                                             .dout = matrix_of(dout),
                                             .dgates = dgates.data()});
  y_ = Tensor();
  Tensor dy = Tensor::empty({num_rows, dout.dim(1)}, dout.dtype());
  kernels::group(launch(), {.routing = view_of(plan_),
                            .x = matrix_of(dout),
                            .gates = gates.data(),
                            .grouped = matrix_of(dy)});
  multiply_gradient(dy, a_, dw2);
  Tensor da = Tensor::empty_like(a_);
  multiply(dy, w2_, true, da);
  dy = a_ = Tensor();
  Tensor dh = Tensor::empty_like(h_);
  kernels::activation_backward(launch(), {kind_, matrix_of(h_), matrix_of(da), matrix_of(dh)});
  da = h_ = Tensor();
  multiply_gradient(dh, rows_, dw1);
  rows_ = Tensor();
  const Tensor routed_dx = Tensor::empty({num_rows, dout.dim(1)}, dout.dtype());
  multiply(dh, w1_, true, routed_dx);
  dh = Tensor();
  Tensor dx = Tensor::empty_like(dout);
  kernels::combine(launch(),
                   {.routing = view_of(plan_), .y = in_groups(routed_dx), .out = matrix_of(dx)});
  return dx;
}

void GatheredMlp::run_gemms(const WeightGradient& dw1, const WeightGradient& dw2) const {
  multiply(rows_, w1_, false, h_);
  multiply(a_, w2_, false, y_);
  multiply_gradient(y_, a_, dw2);
  multiply(y_, w2_, true, a_);
  multiply_gradient(h_, rows_, dw1);
  multiply(h_, w1_, true, rows_);
}

void GatheredMlp::read_counts() {
  host_offsets_ = plan_.expert_offsets.to_vector<std::int32_t>();
}

// y = x W^T per expert, or x W.
void GatheredMlp::multiply(const Tensor& x, const Tensor& weight, bool transpose,
                           const Tensor& y) const {
  if (!loops_)
    return run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
                      {.routing = view_of(plan_),
                       .x = in_groups(x),
                       .weight = experts_of(weight),
                       .transpose_weight = transpose,
                       .y = matrix_of(y)});
  for (std::int64_t e = 0; e < plan_.num_experts; ++e)
    if (host_offsets_[e] < host_offsets_[e + 1])
      dense_gemm(rows_of(x, e), false, expert_of(weight, e), !transpose, rows_of(y, e));
}

void GatheredMlp::multiply_gradient(const Tensor& dy, const Tensor& x,
                                    const WeightGradient& gradient) const {
  if (!gradient.dweight.defined()) return;
  if (!loops_)
    return run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
                      {.routing = view_of(plan_),
                       .dy = in_groups(dy),
                       .x = in_groups(x),
                       .dtype = gradient.dweight.dtype(),
                       .dweight = gradient.dweight.data(),
                       .beta = gradient.beta});
  const Tensor dweight = with_three_dims(gradient.dweight);
  for (std::int64_t e = 0; e < plan_.num_experts; ++e)
    if (host_offsets_[e] < host_offsets_[e + 1])
      dense_gemm(rows_of(dy, e), true, rows_of(x, e), false, expert_of(dweight, e));
    else
      expert_of(dweight, e).fill_zero();
}

Tensor GatheredMlp::rows_of(const Tensor& x, std::int64_t expert) const {
  return x.rows(host_offsets_[expert], host_offsets_[expert + 1]);
}

}  // namespace smoe
