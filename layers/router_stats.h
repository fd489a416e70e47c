// RouterStats: totals of every router's routing over the micro-batches of a step.
#pragma once
#include <vector>

#include "autograd/ops.h"

namespace smoe {

class RouterStats {
 public:
  /// For routers of these numbers of experts, in model order. Accumulates in `totals`, f64
  /// [numel_of(num_experts)], zero at first.
  RouterStats(std::vector<std::int64_t> num_experts, Tensor totals);
  /// In memory of its own.
  explicit RouterStats(std::vector<std::int64_t> num_experts);

  /// Adds one micro-batch's routings; a ForwardContext::on_routing.
  void add(std::span<const Routing> routings);
  void clear() { totals_.fill_zero(); }

  const Tensor& totals() const { return totals_; }
  std::size_t num_routers() const { return num_experts_.size(); }
  std::int64_t num_experts(std::size_t router) const { return num_experts_[router]; }
  /// First element of a router's totals: the rows of each expert, then the sums of its balance and
  /// z losses.
  std::int64_t offset(std::size_t router) const { return offsets_[router]; }
  /// Rows per expert of one router: f64 [E], whole numbers.
  Tensor expert_load(std::size_t router) const;

  static std::int64_t numel_of(const std::vector<std::int64_t>& num_experts);

 private:
  // Routers with equally many experts, whose totals are adjacent and added at once.
  struct Group {
    std::int64_t offset;
    std::vector<std::size_t> routers;
  };
  std::vector<std::int64_t> num_experts_, offsets_;
  std::vector<Group> groups_;
  Tensor totals_;
};

}  // namespace smoe
