// route: router logits to gates, plan and losses, of a choice made here or given.
#include <limits>

#include "autograd/ops.h"
#include "autograd/ops/views.h"
#include "autograd/tape.h"
#include "core/device.h"
#include "kernels/optimizer.h"

namespace smoe {
namespace {

/// Rows are counted in 32 bits.
void check_rows(const char* op, std::int64_t num_tokens, std::int64_t top_k) {
  SMOE_CHECK(num_tokens * top_k <= std::numeric_limits<std::int32_t>::max(), op,
             ": at most 2^31 - 1 routed rows; got ", num_tokens, " tokens times ", top_k);
}

void check_route(const Tensor& logits, std::int64_t top_k, RouterScore score,
                 const Tensor& selection_bias) {
  SMOE_CHECK(logits.rank() == 2 && logits.dtype() == accumulation_dtype(logits.dtype()),
             "route: logits must be [T, E] in f32 or f64; got ", logits.shape(), " ",
             name_of(logits.dtype()));
  SMOE_CHECK(top_k >= 1 && top_k <= logits.dim(1), "route: top_k must be 1 to E=", logits.dim(1),
             "; got ", top_k);
  check_rows("route", logits.dim(0), top_k);
  if (!selection_bias.defined()) return;
  SMOE_CHECK(score == RouterScore::sigmoid,
             "route: a selection bias goes with the sigmoid score alone");
  SMOE_CHECK(
      selection_bias.shape() == Shape({logits.dim(1)}) && selection_bias.dtype() == DType::f32,
      "route: selection_bias must be [E=", logits.dim(1), "] in f32; got ", selection_bias.shape(),
      " ", name_of(selection_bias.dtype()));
}

// What was computed from the logits, as an op on the tape.
Routing recorded(const Variable& logits, const Routing& r, RouterScore score) {
  auto backward = [x = logits.data(), plan = r.plan, gates = r.gates.data(), score](
                      std::vector<Tensor> dys, InputGradients& out) {
    Tensor dx = Tensor::empty_like(x);
    kernels::router_backward(launch(), {matrix_of(x), plan.expert_ids.data_as<std::int32_t>(),
                                        plan.expert_offsets.data_as<std::int32_t>(), gates.data(),
                                        score, plan.top_k, data_or_null(dys[0]),
                                        data_or_null(dys[1]), data_or_null(dys[2]), matrix_of(dx)});
    out.give(0, std::move(dx));
  };
  const std::vector<Variable> outputs =
      record_outputs("route", {r.gates.data(), r.balance_loss.data(), r.z_loss.data()}, {&logits},
                     {}, std::move(backward));
  return {r.plan, outputs[0], outputs[1], outputs[2]};
}

// Weighs `expert_ids`, which hold the choice or receive it.
Routing weighed(const Variable& logits, const Tensor& expert_ids, bool is_chosen, RouterScore score,
                const Tensor& selection_bias) {
  const Tensor& x = logits.data();  // [T, E]
  const std::int64_t num_tokens = x.dim(0), num_experts = x.dim(1), top_k = expert_ids.dim(1);
  const Tensor gates = Tensor::empty({num_tokens, top_k}, x.dtype());
  const Tensor sums = Tensor::empty({num_experts + 1}, DType::f64, Category::workspace);
  run_kernel(
      kernels::router_forward, kernels::router_forward_workspace_bytes,
      {.logits = matrix_of(x),
       .selection_bias = selection_bias.defined() ? selection_bias.data_as<float>() : nullptr,
       .score = score,
       .top_k = top_k,
       .gates = gates.data(),
       .expert_ids = expert_ids.data_as<std::int32_t>(),
       .sums = sums.data_as<double>(),
       .is_chosen = is_chosen});
  const RoutingPlan plan = plan_routing(expert_ids, num_experts);
  const Tensor balance_loss = Tensor::empty({1}, x.dtype());
  const Tensor z_loss = Tensor::empty({1}, x.dtype());
  kernels::router_losses(
      launch(), {sums.data_as<double>(), plan.expert_offsets.data_as<std::int32_t>(), num_tokens,
                 num_experts, balance_loss.data(), z_loss.data(), x.dtype()});

  return recorded(logits, {plan, gates, balance_loss, z_loss}, score);
}

}  // namespace

RoutingPlan plan_routing(const Tensor& expert_ids, std::int64_t num_experts) {
  SMOE_CHECK(expert_ids.rank() == 2 && expert_ids.dtype() == DType::i32,
             "plan_routing: expert_ids must be i32 [T, K]; got ", name_of(expert_ids.dtype()), " ",
             expert_ids.shape());
  SMOE_CHECK(num_experts >= 1, "plan_routing: num_experts must be positive; got ", num_experts);
  check_rows("plan_routing", expert_ids.dim(0), expert_ids.dim(1));
  const std::int64_t num_rows = expert_ids.numel();
  const RoutingPlan plan{expert_ids.dim(0),
                         expert_ids.dim(1),
                         num_experts,
                         expert_ids,
                         Tensor::empty({num_rows}, DType::i32),
                         Tensor::empty({num_rows}, DType::i32),
                         Tensor::empty({num_experts + 1}, DType::i32)};
  run_kernel(kernels::group_by_expert, kernels::group_by_expert_workspace_bytes,
             {.expert_ids = expert_ids.data_as<std::int32_t>(),
              .num_rows = num_rows,
              .num_experts = num_experts,
              .sorted_scattered_ids = plan.sorted_scattered_ids.data_as<std::int32_t>(),
              .grouped_rows = plan.grouped_rows.data_as<std::int32_t>(),
              .expert_offsets = plan.expert_offsets.data_as<std::int32_t>()});
  return plan;
}

Routing route(const Variable& logits, std::int64_t top_k, RouterScore score,
              const Tensor& selection_bias) {
  check_route(logits.data(), top_k, score, selection_bias);
  const Tensor expert_ids = Tensor::empty({logits.data().dim(0), top_k}, DType::i32);
  return weighed(logits, expert_ids, false, score, selection_bias);
}

Routing route_to(const Variable& logits, const Tensor& expert_ids, RouterScore score) {
  SMOE_CHECK(expert_ids.rank() == 2 && expert_ids.dtype() == DType::i32,
             "route_to: expert_ids must be i32 [T, K]; got ", name_of(expert_ids.dtype()), " ",
             expert_ids.shape());
  check_route(logits.data(), expert_ids.dim(1), score, {});
  SMOE_CHECK(expert_ids.dim(0) == logits.data().dim(0), "route_to: logits and expert_ids must be ",
             "of the same tokens; got ", logits.data().dim(0), " and ", expert_ids.dim(0));
  return weighed(logits, expert_ids, true, score, {});
}

Routing route_again(const Variable& logits, const Routing& earlier, RouterScore score) {
  const RoutingPlan& plan = earlier.plan;
  check_route(logits.data(), plan.top_k, score, {});
  const Shape wanted{plan.num_tokens, plan.num_experts};
  SMOE_CHECK(logits.shape() == wanted, "route_again: logits must be ", wanted, "; got ",
             logits.shape());
  return recorded(logits, earlier, score);
}

void add_expert_load(const RoutingPlan& plan, const Tensor& load) {
  SMOE_CHECK(load.shape() == Shape{plan.num_experts},
             "add_expert_load: load must be [E=", plan.num_experts, "]; got ", load.shape());
  kernels::add_expert_load(launch(), {plan.expert_offsets.data_as<std::int32_t>(), plan.num_experts,
                                      load.data_as<std::int64_t>()});
}

void update_selection_bias(const Tensor& bias, const Tensor& load, double rate) {
  SMOE_CHECK(bias.shape() == load.shape(), "update_selection_bias: bias and load must be [E]; got ",
             bias.shape(), " and ", load.shape());
  kernels::update_selection_bias(
      launch(), {bias.data_as<float>(), load.data_as<std::int64_t>(), bias.numel(), rate});
}

}  // namespace smoe
