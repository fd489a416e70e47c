#include "train/profile/routing_cost.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/ops.h"
#include "autograd/tape.h"
#include "kernels/engines.h"
#include "layers/expert_load.h"
#include "train/profile/timing.h"

namespace smoe {
namespace {

using Rows = std::vector<std::int64_t>;

Parameter& find_parameter(const ParameterStore& store, const std::string& name) {
  const auto all = store.parameters();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Parameter* p) { return p->name() == name; });
  SMOE_INTERNAL_CHECK(found != all.end(), "profile: the model has no parameter ", name);
  return **found;
}

// `num_rows` rows with the shares of `load`; the experts of adjacent rows differ.
RoutingPlan plan_with_load(const Rows& load, std::int64_t num_tokens, std::int64_t top_k) {
  const std::int64_t num_rows = num_tokens * top_k;
  const double total =
      static_cast<double>(std::accumulate(load.begin(), load.end(), std::int64_t{0}));
  std::vector<std::int32_t> sorted;
  double share = 0;
  for (std::size_t e = 0; e < load.size(); ++e) {
    share += static_cast<double>(load[e]) / total;
    const auto end = static_cast<std::size_t>(std::lround(share * static_cast<double>(num_rows)));
    sorted.resize(std::max(sorted.size(), end), static_cast<std::int32_t>(e));
  }
  std::int64_t stride = 7919;  // a prime, so that every row is visited once
  while (std::gcd(stride, num_rows) != 1) ++stride;
  std::vector<std::int32_t> ids(num_rows);
  for (std::int64_t i = 0; i < num_rows; ++i) ids[i] = sorted[i * stride % num_rows];
  return plan_routing(Tensor::from(ids, {num_tokens, top_k}),
                      static_cast<std::int64_t>(load.size()));
}

double forward_ms(const Config& config, const RoutingPlan& plan, Parameter& w1, Parameter& w2) {
  const NoGradScope no_grad;
  const DType dtype = config.train.precision;
  const Variable x(Tensor::zeros({plan.num_tokens, config.model.d_model}, dtype));
  const Variable gates(Tensor::zeros({plan.num_tokens, plan.top_k}, accumulation_dtype(dtype)));
  std::vector<double> times;
  for (int run = 0; run < 6; ++run)
    times.push_back(time_ms([&] { moe_mlp(x, gates, plan, w1, w2, config.model.activation); }));
  return median({times.begin() + 1, times.end()});
}

void add_tiles(const Config& config, const std::vector<Rows>& loads, double num_micro_batches,
               RoutingCost& cost) {
  if (current_stream().device().type != DeviceType::cuda) return;
  const ModelConfig& m = config.model;
  cost.tile_rows =
      static_cast<double>(kernels::choose_expert_gemm({.num_experts = m.num_experts,
                                                       .d_model = m.d_model,
                                                       .d_expert = m.d_expert,
                                                       .activation = m.activation,
                                                       .dtype = config.train.precision},
                                                      kernels::kHopper)
                              .tile.m);
  double rows = 0, padded = 0;
  for (const Rows& load : loads)
    for (const std::int64_t count : load) {
      const double per_batch = static_cast<double>(count) / num_micro_batches;
      rows += per_batch;
      padded += std::ceil(per_batch / cost.tile_rows) * cost.tile_rows;
    }
  cost.tile_fill = rows / padded;
}

}  // namespace

RoutingCost measure_routing_cost(const Config& config, Trainer& trainer,
                                 const std::vector<LayerGroup>& layers) {
  const std::int64_t num_tokens = config.train.micro_batch * config.train.seq_len;
  const std::int64_t num_experts = config.model.num_experts, top_k = config.model.top_k;
  RoutingCost cost;
  std::vector<Rows> loads;
  const std::vector<Router*>& routers = trainer.model().routers();
  for (std::size_t i = 0; i < routers.size(); ++i) {
    if (!routers[i]->name().ends_with(".block_sparse_moe.gate")) continue;
    loads.push_back(trainer.result().routers[i].expert_rows);
    cost.imbalance.push_back(expert_load(loads.back()).imbalance);
  }
  const RoutingPlan balanced = plan_with_load(Rows(num_experts, 1), num_tokens, top_k);
  for (const LayerGroup& layer : layers) {
    const std::string name =
        "model.layers." + std::to_string(layer.layer) + ".block_sparse_moe.experts.";
    Parameter& w1 = find_parameter(trainer.store(), name + "w1_w3.weight");
    Parameter& w2 = find_parameter(trainer.store(), name + "w2.weight");
    const double equal_ms = forward_ms(config, balanced, w1, w2);
    const double own_ms =
        forward_ms(config, plan_with_load(loads[layer.layer], num_tokens, top_k), w1, w2);
    cost.experts_ms += layer.experts_ms;
    cost.balanced_ms += layer.experts_ms * std::min(1.0, equal_ms / own_ms);
  }
  add_tiles(config, loads,
            static_cast<double>(config.train.global_batch / config.train.micro_batch), cost);
  return cost;
}

}  // namespace smoe
