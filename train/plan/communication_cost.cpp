#include "train/plan/communication_cost.h"

#include <algorithm>

namespace smoe {
namespace {

/// Milliseconds to scatter the sums of, or to gather, `bytes` over the cluster.
double one_way_ms(std::int64_t bytes, const Cluster& cluster) {
  const int local = std::min(cluster.num_ranks, cluster.ranks_per_host);
  const double hosts = static_cast<double>(cluster.num_ranks) / local;
  const auto whole = static_cast<double>(bytes);
  const double within = whole * (local - 1) / local / cluster.link_bytes_per_s;
  const double between = whole / local * (hosts - 1) / hosts / cluster.network_bytes_per_s;
  return 1e3 * std::max(within, between);
}

std::int64_t one_way_bytes(std::int64_t bytes, const Cluster& cluster) {
  return bytes / cluster.num_ranks * (cluster.num_ranks - 1);
}

}  // namespace

CommunicationCost communication_cost(std::int64_t gradient_bytes, std::int64_t weight_bytes,
                                     bool zero, const Cluster& cluster) {
  const int ways = zero ? 1 : 2;
  CommunicationCost cost{.reduce_bytes = ways * one_way_bytes(gradient_bytes, cluster),
                         .reduce_ms = ways * one_way_ms(gradient_bytes, cluster)};
  if (zero) {
    cost.gather_bytes = one_way_bytes(weight_bytes, cluster);
    cost.gather_ms = one_way_ms(weight_bytes, cluster);
  }
  return cost;
}

}  // namespace smoe
