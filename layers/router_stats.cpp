#include "layers/router_stats.h"

namespace smoe {

RouterStats::RouterStats(const ModelConfig& c, DType loss_dtype)
    : expert_load_(Tensor::zeros({c.num_layers, c.num_experts}, DType::i64, Category::workspace)),
      losses_(Tensor::zeros({c.num_layers, 2}, loss_dtype, Category::workspace)) {}

void RouterStats::add(std::size_t layer, const Routing& routing) {
  const auto row = static_cast<std::int64_t>(layer), num_experts = expert_load_.dim(1);
  add_expert_load(routing.plan, expert_load_.view(row * num_experts, {num_experts}));
  accumulate(routing.balance_loss, losses_.view(2 * row, {1}));
  accumulate(routing.z_loss, losses_.view(2 * row + 1, {1}));
}

void RouterStats::clear() {
  expert_load_.fill_zero();
  losses_.fill_zero();
}

}  // namespace smoe
