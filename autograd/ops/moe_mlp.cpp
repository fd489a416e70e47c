// The experts' MLP, fused. Forward: h = W1 x, a = gate * act(h), y = W2 a, out = sum of each
// token's rows of y. Saved: x, gates and h. Backward, with dA = W2^T dout:
//   dgate = <dA, act(h)>, dh = gate * dA * act'(h) over h, a recomputed   (expert_down_backward)
//   dW2 += dout a^T;  dx~ = W1^T dh over a;  dx = sum of each token's rows of dx~;  dW1 += dh x^T
// so that only one array of N rows is live besides h. dx overwrites dout if that is the sole
// reference; where x is a norm's output, the backward of the norm sums the rows of dx~. If h is not
// saved, backward begins with expert_up, which recomputes it.
#include "kernels/moe_mlp.h"

#include <algorithm>

#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/routed_sum.h"
#include "autograd/saved_tensor.h"
#include "autograd/tape.h"
#include "autograd/unsummed_gradient.h"
#include "core/base/instrument.h"
#include "kernels/combine.h"

namespace smoe {
namespace {

struct ExpertMlp {
  RoutingPlan plan;
  Parameter* w1;  // [E, 2, F, D] or [E, F, D]
  Parameter* w2;  // [E, D, F]
  Activation kind;

  std::int64_t width() const { return w2->shape()[2]; }
};

void check_mlp(const Variable& x, const Variable& gates, const ExpertMlp& mlp) {
  const RoutingPlan& plan = mlp.plan;
  const Shape &w1 = mlp.w1->shape(), &w2 = mlp.w2->shape();
  SMOE_CHECK(x.shape().rank() == 2 && x.dim(0) == plan.num_tokens,
             "moe_mlp: x must be [T=", plan.num_tokens, ", D]; got ", x.shape());
  const bool gated = is_gated(mlp.kind);
  const Shape fitting_w2{plan.num_experts, x.dim(1), w2.rank() == 3 ? w2[2] : 0};
  const Shape fitting_w1 = gated ? Shape{plan.num_experts, 2, fitting_w2[2], x.dim(1)}
                                 : Shape{plan.num_experts, fitting_w2[2], x.dim(1)};
  SMOE_CHECK(w1 == fitting_w1 && w2 == fitting_w2, "moe_mlp: weights must be ",
             gated ? "[E, 2, F, D]" : "[E, F, D]", " and [E, D, F] with E=", plan.num_experts,
             ", D=", x.dim(1), "; got ", w1, " and ", w2);
  const DType w1_dtype = mlp.w1->value().dtype(), w2_dtype = mlp.w2->value().dtype();
  SMOE_CHECK(w1_dtype == x.dtype() && w2_dtype == x.dtype(),
             "moe_mlp: x and weights must have one dtype; got ", name_of(x.dtype()), ", ",
             name_of(w1_dtype), " and ", name_of(w2_dtype));
  const Shape gates_shape{plan.num_tokens, plan.top_k};
  const DType gates_dtype = accumulation_dtype(x.dtype());
  SMOE_CHECK(gates.shape() == gates_shape && gates.dtype() == gates_dtype,
             "moe_mlp: gates must be ", gates_shape, " in ", name_of(gates_dtype), "; got ",
             gates.shape(), " in ", name_of(gates.dtype()));
}

// sum = the sum of each token's grouped rows.
void combine_rows(const RoutingPlan& plan, const Tensor& rows, const Tensor& sum) {
  kernels::combine(launch(), {.routing = view_of(plan),
                              .y = {matrix_of(rows), RowLayout::grouped},
                              .out = matrix_of(sum)});
}

void accumulate_gradient(const ExpertMlp& mlp, Parameter& weight, const kernels::RoutedRows& dy,
                         const kernels::RoutedRows& x, bool overlaps_preceding) {
  if (!weight.trains()) return;
  run_kernel(kernels::expert_gradient, kernels::expert_gradient_workspace_bytes,
             {.routing = view_of(mlp.plan),
              .dy = dy,
              .x = x,
              .dtype = weight.gradient_dtype(),
              .dweight = weight.gradient().data(),
              .beta = weight.claim_gradient(),
              .overlaps_preceding = overlaps_preceding});
}

Tensor empty_preactivations(const ExpertMlp& mlp, const Tensor& x) {
  return Tensor::empty({mlp.plan.num_rows(), kernels::preactivation_width(mlp.kind, mlp.width())},
                       x.dtype());
}

// a = gate * act(W1 x); writes h = W1 x if it is defined.
void up_projection(const ExpertMlp& mlp, const Tensor& x, const Tensor& gates, const Tensor& h,
                   const Tensor& a) {
  run_kernel(kernels::expert_up, kernels::expert_up_workspace_bytes,
             {.routing = view_of(mlp.plan),
              .x = matrix_of(x),
              .w1 = experts_of(mlp.w1->value()),
              .kind = mlp.kind,
              .gates = gates.data(),
              .h = h.defined() ? matrix_of(h) : Matrix{},
              .a = matrix_of(a)});
}

// y = W2 a, [N, D].
Tensor forward(const ExpertMlp& mlp, const Tensor& x, const Tensor& gates, const Tensor& h) {
  const std::int64_t rows = mlp.plan.num_rows();
  Tensor a = Tensor::empty({rows, mlp.width()}, x.dtype());  // [N, F]
  up_projection(mlp, x, gates, h, a);
  Tensor y = Tensor::empty({rows, x.dim(1)}, x.dtype());  // [N, D]
  run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
             {.routing = view_of(mlp.plan),
              .x = {matrix_of(a), RowLayout::grouped},
              .weight = experts_of(mlp.w2->value()),
              .y = matrix_of(y)});
  return y;
}

// Recomputes h if it is undefined; x is read for that and for dW1. The gradient of x is left in
// `parts` unless that is null or has such a part already.
void backward(const ExpertMlp& mlp, const Tensor& x, const Tensor& gates, Tensor h, Tensor dout,
              UnsummedGradient* parts, InputGradients& out) {
  const std::int64_t rows = mlp.plan.num_rows(), d = dout.dim(1), f = mlp.width();
  // One buffer, first for a, then for dx~.
  Tensor shared = Tensor::empty({rows * std::max(d, f)}, dout.dtype());
  const Tensor a = shared.view(0, {rows, f});
  const Tensor routed_dx = shared.view(0, {rows, d});
  if (!h.defined()) {
    Place again = current_place();
    again.phase = Phase::recompute;
    const PlaceScope place(again);
    h = empty_preactivations(mlp, x);
    up_projection(mlp, x, gates, h, a);
  }
  Tensor dgates = Tensor::empty_like(gates);
  run_kernel(kernels::expert_down_backward, kernels::expert_down_backward_workspace_bytes,
             {.routing = view_of(mlp.plan),
              .dout = matrix_of(dout),
              .w2 = experts_of(mlp.w2->value()),
              .kind = mlp.kind,
              .gates = gates.data(),
              .h = matrix_of(h),
              .a = matrix_of(a),
              .dgates = dgates.data()});
  out.give(1, std::move(dgates));
  accumulate_gradient(mlp, *mlp.w2, {matrix_of(dout), RowLayout::scattered},
                      {matrix_of(a), RowLayout::grouped}, false);
  const Tensor& dh = h;
  // dW2, dW1 and dx~ depend on dh and a only. In this order each may run beside the one before it,
  // and the one with the shortest tiles is last. dx~ overwrites a after dW2 has read it, because
  // only dW1 may still run then.
  if (mlp.w1->trains())
    accumulate_gradient(mlp, *mlp.w1, {matrix_of(dh), RowLayout::grouped},
                        {matrix_of(x), RowLayout::scattered}, mlp.w2->trains());
  if (out.wants(0)) {
    run_kernel(kernels::grouped_gemm, kernels::grouped_gemm_workspace_bytes,
               {.routing = view_of(mlp.plan),
                .x = {matrix_of(dh), RowLayout::grouped},
                .weight = experts_of(mlp.w1->value()),
                .transpose_weight = true,
                .y = matrix_of(routed_dx),
                .overlaps_preceding = mlp.w1->trains()});
    if (parts && !parts->rows.defined()) {
      parts->rows = routed_dx;
      parts->plan = mlp.plan;
      out.give_part(0);
    } else {
      Tensor dx = dout.is_sole_reference() ? std::move(dout) : Tensor::empty_like(dout);
      combine_rows(mlp.plan, routed_dx, dx);
      out.give(0, std::move(dx));
    }
  }
}

}  // namespace

Variable moe_mlp(const Variable& x, const Variable& gates, const RoutingPlan& plan, Parameter& w1,
                 Parameter& w2, Activation kind, bool recompute) {
  const ExpertMlp mlp{plan, &w1, &w2, kind};
  check_mlp(x, gates, mlp);
  Tensor h;  // undefined if backward will not run or will recompute it
  const Variable* const inputs[] = {&x, &gates};
  Parameter* const weights[] = {&w1, &w2};
  if (is_recorded(inputs, weights) && !recompute) h = empty_preactivations(mlp, x.data());
  Tensor rows = forward(mlp, x.data(), gates.data(), h);
  Tensor out = Tensor::empty_like(x.data());  // [T, D]
  const auto sum = std::make_shared<RoutedSum>(std::move(rows), plan, out);
  Variable y = record(
      "moe_mlp", std::move(out), {&x, &gates}, {&w1, &w2},
      [mlp, saved = SavedTensor(x, w1.trains() || recompute), parts = x.unsummed_gradient(),
       gates = gates.data(), h = std::move(h)](Tensor dout, InputGradients& gradients) mutable {
        backward(mlp, saved.take(), gates, std::move(h), std::move(dout), parts.get(), gradients);
      });
  y.set_routed_sum(sum);
  return y;
}

void RoutedSum::compute() {
  if (!has_rows()) return;
  combine_rows(plan_, rows_, sum_);
  rows_ = Tensor();
}

void Variable::compute_routed_sum() const {
  routed_sum_->compute();
}

}  // namespace smoe
