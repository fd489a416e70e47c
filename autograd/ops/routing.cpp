// route: router logits to plan, gates and losses, for experts chosen by score or given.
#include <limits>

#include "autograd/ops.h"
#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"
#include "core/device.h"

namespace smoe {
namespace {

/// Rows are counted in 32 bits.
void check_rows(const char* op, std::int64_t num_tokens, std::int64_t top_k) {
  SMOE_CHECK(num_tokens * top_k <= std::numeric_limits<std::int32_t>::max(), op,
             ": at most 2^31 - 1 routed rows; got ", num_tokens, " tokens times ", top_k);
}

void check_top_k(const Tensor& logits, RouterScore score, const TopK& choice) {
  const auto& [top_k, bias] = choice;
  SMOE_CHECK(top_k >= 1 && top_k <= logits.dim(1), "route: top_k must be 1 to E=", logits.dim(1),
             "; got ", top_k);
  check_rows("route", logits.dim(0), top_k);
  if (!bias.defined()) return;
  SMOE_CHECK(score == RouterScore::sigmoid, "route: a selection bias needs the sigmoid score");
  SMOE_CHECK(bias.shape() == Shape({logits.dim(1)}) && bias.dtype() == DType::f32,
             "route: selection_bias must be [E=", logits.dim(1), "] in f32; got ", bias.shape(),
             " ", name_of(bias.dtype()));
}

void check_plan(const Tensor& logits, const RoutingPlan& plan) {
  const Shape expected{plan.num_tokens, plan.num_experts};
  SMOE_CHECK(logits.shape() == expected, "route: logits must be [T, E] of the given plan, ",
             expected, "; got ", logits.shape());
}

// The router's results before they are recorded.
struct Routed {
  Tensor gates;         // [T, K]
  Tensor sums;          // f64 [E+1], for the losses
  Tensor balance_loss;  // [1]
  Tensor z_loss;        // [1]
};

// Computes the gates of `expert_ids` [T, K], after choosing them unless they are given.
Routed compute_gates(const Tensor& logits, RouterScore score, const TopK& choice,
                     const Tensor& expert_ids, bool is_given) {
  const std::int64_t num_tokens = logits.dim(0), num_experts = logits.dim(1);
  const Tensor& bias = choice.selection_bias;
  Routed routed{.gates = Tensor::empty({num_tokens, choice.top_k}, logits.dtype()),
                .sums = Tensor::empty({num_experts + 1}, DType::f64, Category::workspace),
                .balance_loss = {},
                .z_loss = {}};
  run_kernel(kernels::router_forward, kernels::router_forward_workspace_bytes,
             {.logits = matrix_of(logits),
              .selection_bias = bias.defined() ? bias.data_as<float>() : nullptr,
              .score = score,
              .top_k = choice.top_k,
              .gates = routed.gates.data(),
              .expert_ids = expert_ids.data_as<std::int32_t>(),
              .sums = routed.sums.data_as<double>(),
              .is_chosen = is_given});
  return routed;
}

void compute_losses(const RoutingPlan& plan, Routed& routed) {
  routed.balance_loss = Tensor::empty({1}, routed.gates.dtype());
  routed.z_loss = Tensor::empty({1}, routed.gates.dtype());
  kernels::router_losses(launch(), {.sums = routed.sums.data_as<double>(),
                                    .expert_offsets = plan.expert_offsets.data_as<std::int32_t>(),
                                    .num_tokens = plan.num_tokens,
                                    .num_experts = plan.num_experts,
                                    .balance_loss = routed.balance_loss.data(),
                                    .z_loss = routed.z_loss.data(),
                                    .dtype = routed.gates.dtype()});
}

Routing record_routing(const Variable& logits, const RoutingPlan& plan, const Routed& routed,
                       RouterScore score) {
  auto backward = [x = logits.data(), plan, gates = routed.gates, score](std::vector<Tensor> dys,
                                                                         InputGradients& out) {
    Tensor dx = Tensor::empty_like(x);
    kernels::router_backward(launch(),
                             {.logits = matrix_of(x),
                              .expert_ids = plan.expert_ids.data_as<std::int32_t>(),
                              .expert_offsets = plan.expert_offsets.data_as<std::int32_t>(),
                              .gates = gates.data(),
                              .score = score,
                              .top_k = plan.top_k,
                              .dgates = data_or_null(dys[0]),
                              .dbalance_loss = data_or_null(dys[1]),
                              .dz_loss = data_or_null(dys[2]),
                              .dlogits = matrix_of(dx)});
    out.give(0, std::move(dx));
  };
  const std::vector<Variable> outputs =
      record_outputs("route", {routed.gates, routed.balance_loss, routed.z_loss}, {&logits}, {},
                     std::move(backward));
  return {plan, outputs[0], outputs[1], outputs[2]};
}

}  // namespace

RoutingPlan plan_routing(const Tensor& expert_ids, std::int64_t num_experts) {
  SMOE_CHECK(expert_ids.rank() == 2 && expert_ids.dtype() == DType::i32,
             "plan_routing: expert_ids must be i32 [T, K]; got ", name_of(expert_ids.dtype()), " ",
             expert_ids.shape());
  SMOE_CHECK(num_experts >= 1, "plan_routing: num_experts must be positive; got ", num_experts);
  check_rows("plan_routing", expert_ids.dim(0), expert_ids.dim(1));
  const std::int64_t num_rows = expert_ids.numel();
  const RoutingPlan plan{.num_tokens = expert_ids.dim(0),
                         .top_k = expert_ids.dim(1),
                         .num_experts = num_experts,
                         .expert_ids = expert_ids,
                         .sorted_scattered_ids = Tensor::empty({num_rows}, DType::i32),
                         .grouped_rows = Tensor::empty({num_rows}, DType::i32),
                         .expert_offsets = Tensor::empty({num_experts + 1}, DType::i32)};
  run_kernel(kernels::group_by_expert, kernels::group_by_expert_workspace_bytes,
             {.expert_ids = expert_ids.data_as<std::int32_t>(),
              .num_rows = num_rows,
              .num_experts = num_experts,
              .sorted_scattered_ids = plan.sorted_scattered_ids.data_as<std::int32_t>(),
              .grouped_rows = plan.grouped_rows.data_as<std::int32_t>(),
              .expert_offsets = plan.expert_offsets.data_as<std::int32_t>()});
  return plan;
}

Routing route(const Variable& logits, RouterScore score, const ExpertChoice& choice) {
  const Tensor& x = logits.data();
  SMOE_CHECK(x.rank() == 2 && x.dtype() == accumulation_dtype(x.dtype()),
             "route: logits must be [T, E] in f32 or f64; got ", x.shape(), " ",
             name_of(x.dtype()));
  const RoutingPlan* const given = std::get_if<RoutingPlan>(&choice);
  const TopK top_k = given ? TopK{given->top_k} : std::get<TopK>(choice);
  given ? check_plan(x, *given) : check_top_k(x, score, top_k);
  const Tensor expert_ids =
      given ? given->expert_ids : Tensor::empty({x.dim(0), top_k.top_k}, DType::i32);
  Routed routed = compute_gates(x, score, top_k, expert_ids, given != nullptr);
  const RoutingPlan plan = given ? *given : plan_routing(expert_ids, x.dim(1));
  compute_losses(plan, routed);
  return record_routing(logits, plan, routed, score);
}

void add_routing(std::span<const Routing> layers, const Tensor& totals) {
  if (layers.empty()) return;
  const std::int64_t num_experts = layers[0].plan.num_experts;
  const Shape expected{static_cast<std::int64_t>(layers.size()), num_experts + 2};
  SMOE_CHECK(totals.shape() == expected, "add_routing: totals must be [layers, E + 2], ", expected,
             "; got ", totals.shape());
  std::vector<kernels::LayerRouting> table;
  for (const Routing& layer : layers)
    table.push_back({layer.plan.expert_offsets.data_as<std::int32_t>(),
                     layer.balance_loss.data().data(), layer.z_loss.data().data()});
  kernels::add_routing(launch(), {.layers = table,
                                  .loss_dtype = layers[0].balance_loss.dtype(),
                                  .num_experts = num_experts,
                                  .totals = totals.data_as<double>()});
}

}  // namespace smoe
