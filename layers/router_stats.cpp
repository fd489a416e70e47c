#include "layers/router_stats.h"

namespace smoe {

RouterStats::RouterStats(const ModelConfig& c)
    : RouterStats(
          Tensor::zeros({c.num_layers, c.num_experts + 2}, DType::f64, Category::workspace)) {}

Tensor RouterStats::expert_load(std::int64_t layer) const {
  return totals_.view(layer * totals_.dim(1), {totals_.dim(1) - 2});
}

}  // namespace smoe
