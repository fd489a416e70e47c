#include "layers/router_stats.h"

#include <map>

namespace smoe {

RouterStats::RouterStats(std::vector<std::int64_t> num_experts, Tensor totals)
    : num_experts_(std::move(num_experts)),
      offsets_(num_experts_.size()),
      totals_(std::move(totals)) {
  std::map<std::int64_t, std::vector<std::size_t>> by_size;
  for (std::size_t i = 0; i < num_experts_.size(); ++i) by_size[num_experts_[i]].push_back(i);
  std::int64_t offset = 0;
  for (const auto& [size, routers] : by_size) {
    groups_.push_back({offset, routers});
    for (const std::size_t router : routers) {
      offsets_[router] = offset;
      offset += size + 2;
    }
  }
}

RouterStats::RouterStats(std::vector<std::int64_t> num_experts)
    : RouterStats(num_experts,
                  Tensor::zeros({numel_of(num_experts)}, DType::f64, Category::workspace)) {}

std::int64_t RouterStats::numel_of(const std::vector<std::int64_t>& num_experts) {
  std::int64_t numel = 0;
  for (const std::int64_t size : num_experts) numel += size + 2;
  return numel;
}

void RouterStats::add(std::span<const Routing> routings) {
  SMOE_INTERNAL_CHECK(routings.size() == num_experts_.size(), "router_stats: there are ",
                      num_experts_.size(), " routers; got ", routings.size(), " routings");
  for (const auto& [offset, routers] : groups_) {
    std::vector<Routing> group;
    for (const std::size_t router : routers) group.push_back(routings[router]);
    add_routing(group, totals_.view(offset, {static_cast<std::int64_t>(group.size()),
                                             num_experts_[routers[0]] + 2}));
  }
}

Tensor RouterStats::expert_load(std::size_t router) const {
  return totals_.view(offsets_[router], {num_experts_[router]});
}

}  // namespace smoe
