// RoutedSum: a tensor that is the sum of each token's routed rows, and is computed only when it is
// read, since the norm that follows the experts sums the rows as it reads them.
#pragma once
#include "autograd/routing_plan.h"

namespace smoe {

class RoutedSum {
 public:
  /// sum [T, D] of rows [N, D], grouped by `plan`. `sum` is allocated, with undefined elements.
  RoutedSum(Tensor rows, RoutingPlan plan, Tensor sum)
      : rows_(std::move(rows)), plan_(std::move(plan)), sum_(std::move(sum)) {}

  /// Until the sum is computed.
  bool has_rows() const { return rows_.defined(); }
  const Tensor& rows() const { return rows_; }
  const RoutingPlan& plan() const { return plan_; }
  /// At the first call, writes the sum and releases the rows (ops/moe_mlp.cpp).
  void compute();

 private:
  Tensor rows_;
  RoutingPlan plan_;
  Tensor sum_;
};

}  // namespace smoe
