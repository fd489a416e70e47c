#include "train/bench/attention_variant.h"

#include <numeric>

#include "autograd/ops.h"
#include "autograd/ops/views.h"
#include "kernels/combine.h"
#include "train/bench/op_variant.h"
#include "train/bench/row_copies.h"

namespace smoe {
namespace {

// Rows of x, scattered [N, D] or [T, D], copied to grouped order.
Variable group_rows(const Variable& x, const RoutingPlan& plan) {
  return record("group_rows", grouped_copy(plan, x.data()), {&x}, {},
                [plan, shape = x.shape()](const Tensor& dy, InputGradients& out) {
                  if (shape[0] == plan.num_rows()) return out.give(0, scattered_copy(plan, dy));
                  Tensor dx = Tensor::empty(shape, dy.dtype());
                  kernels::combine(launch(), {.routing = view_of(plan),
                                              .y = {matrix_of(dy), RowLayout::grouped},
                                              .out = matrix_of(dx)});
                  out.give(0, std::move(dx));
                });
}

// Grouped rows [N, D] copied to scattered order.
Variable scatter_rows(const Variable& rows, const RoutingPlan& plan) {
  return record(
      "scatter_rows", scattered_copy(plan, rows.data()), {&rows}, {},
      [plan](const Tensor& dy, InputGradients& out) { out.give(0, grouped_copy(plan, dy)); });
}

// The plan by which grouped order is scattered order.
RoutingPlan identity_of(RoutingPlan plan) {
  std::vector<std::int32_t> ids(plan.num_rows());
  std::iota(ids.begin(), ids.end(), 0);
  plan.sorted_scattered_ids = plan.grouped_rows =
      Tensor::from(ids, {plan.num_rows()}, Category::workspace);
  return plan;
}

// Scattered rows [N, D] and gates [T, K] -> [T, D].
Variable combine_rows(const Variable& rows, const Variable& gates, const RoutingPlan& identity) {
  Tensor y = rows.data();
  Tensor sum = Tensor::empty({identity.num_tokens, y.dim(1)}, y.dtype());
  kernels::combine(launch(), {.routing = view_of(identity),
                              .y = {matrix_of(y), RowLayout::scattered},
                              .gates = gates.data().data(),
                              .out = matrix_of(sum)});
  return record(
      "combine_rows", std::move(sum), {&rows, &gates}, {},
      [y, gates = gates.data(), identity](const Tensor& dsum, InputGradients& out) mutable {
        Tensor dgates = Tensor::empty_like(gates);
        kernels::combine_gates_backward(launch(), {.routing = view_of(identity),
                                                   .y = {matrix_of(y), RowLayout::scattered},
                                                   .dout = matrix_of(dsum),
                                                   .dgates = dgates.data()});
        out.give(1, std::move(dgates));
        y = Tensor();
        out.give(0, grouped_copy(identity, dsum, gates));
      });
}

class AttentionVariant : public OpVariant {
 public:
  explicit AttentionVariant(const ExpertInputs& inputs)
      : OpVariant(inputs, {inputs.w1, inputs.w2, inputs.kv}, false) {}

 protected:
  virtual Variable queries(const Variable& x) = 0;                           // -> [N, F]
  virtual Variable output(const Variable& rows, const Variable& gates) = 0;  // -> [T, D]
  Parameter& query_weight() { return parameter(0); }
  Parameter& output_weight() { return parameter(1); }

 private:
  Variable run(Variable x, const Variable& gates) override {
    const ExpertShape& s = in_.shape;
    const kernels::AttentionShape shape = attention_shape(s, *in_.attention);
    const Variable q = reshape(queries(x), {s.num_tokens, shape.output_width()});
    const Variable attended = causal_attention(q, linear(x, parameter(2)), shape);
    return output(reshape(attended, {s.num_rows(), s.d_expert}), gates);
  }
};

class ScatteredAttention : public AttentionVariant {
 public:
  using AttentionVariant::AttentionVariant;

 private:
  Variable queries(const Variable& x) override {
    return parallel_linear(x, query_weight(), in_.plan,
                           {.input = RowLayout::scattered, .output = RowLayout::scattered});
  }
  Variable output(const Variable& rows, const Variable& gates) override {
    return parallel_linear(rows, output_weight(), in_.plan, {.input = RowLayout::scattered}, gates);
  }
};

class CopiedAttention : public AttentionVariant {
 public:
  CopiedAttention(const ExpertInputs& inputs, bool copies_output)
      : AttentionVariant(inputs),
        copies_output_(copies_output),
        identity_(identity_of(inputs.plan)) {}

 private:
  Variable queries(const Variable& x) override {
    return scatter_rows(
        parallel_linear(group_rows(x, in_.plan), query_weight(), in_.plan, kGrouped), in_.plan);
  }
  Variable output(const Variable& rows, const Variable& gates) override {
    const Variable grouped = group_rows(rows, in_.plan);
    if (!copies_output_)
      return parallel_linear(grouped, output_weight(), in_.plan, kGrouped, gates);
    const Variable y = parallel_linear(grouped, output_weight(), in_.plan, kGrouped);
    return combine_rows(scatter_rows(y, in_.plan), gates, identity_);
  }

  static constexpr ParallelLinearOptions kGrouped{.input = RowLayout::grouped,
                                                  .output = RowLayout::grouped};
  bool copies_output_;
  RoutingPlan identity_;
};

}  // namespace

kernels::AttentionShape attention_shape(const ExpertShape& shape, const AttentionMode& mode) {
  return {.batch = mode.num_sequences,
          .seq_len = shape.num_tokens / mode.num_sequences,
          .num_heads = mode.num_heads,
          .num_kv_heads = mode.num_heads / shape.top_k,
          .head_dim = shape.d_expert * shape.top_k / mode.num_heads,
          .is_interleaved = shape.top_k > 1};
}

std::unique_ptr<ExpertVariant> make_attention_variant(VariantKind kind,
                                                      const ExpertInputs& inputs) {
  if (kind == VariantKind::smoe) return std::make_unique<ScatteredAttention>(inputs);
  return std::make_unique<CopiedAttention>(inputs, kind == VariantKind::copied);
}

}  // namespace smoe
