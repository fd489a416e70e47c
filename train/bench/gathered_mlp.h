// The experts' MLP on gathered copies: rows are copied to order them by expert, padded or not,
// multiplied, and their results combined. What a program does whose GEMMs read no scattered rows.
#pragma once
#include <cstdint>
#include <vector>

#include "autograd/routing_plan.h"
#include "core/tensor.h"
#include "kernels/activation.h"

namespace smoe {

/// The routing of `plan` with rows added until each expert has a multiple of `block` of them. They
/// belong to tokens after the plan's own, and all their experts' numbers of rows become known to
/// the host, which waits for them.
RoutingPlan padded_plan(const RoutingPlan& plan, std::int64_t block);

/// x [T, ...] followed by zeros, as many rows as `plan` has tokens.
Tensor extended(const Tensor& x, const RoutingPlan& plan);

/// Where a weight gradient goes: dweight = beta * dweight + gradient.
struct WeightGradient {
  Tensor dweight;
  double beta = 0;
};

/// One forward and backward. Sizes are those of the plan, padding included.
class GatheredMlp {
 public:
  /// With `loops` one dense GEMM per expert, for which the host waits to know the numbers of rows;
  /// else grouped GEMMs. Weights are [E, 2F, D] or [E, 2, F, D] (gated), and [E, D, F].
  GatheredMlp(const RoutingPlan& plan, const Tensor& w1, const Tensor& w2, kernels::Activation kind,
              bool loops = false);

  /// x [T, D] and gates [T, K], with zeros for padding -> [T, D]. Keeps what backward needs if
  /// `trains`: the gathered rows, pre-activations, activations and results.
  Tensor forward(const Tensor& x, const Tensor& gates, bool trains);
  /// The gradients of a forward that kept what it needs, which is freed. `dgates` [T, K] is
  /// written; a weight gradient without a tensor is not computed. Returns dx [T, D].
  Tensor backward(const Tensor& dout, const Tensor& gates, const Tensor& dgates,
                  const WeightGradient& dw1, const WeightGradient& dw2);
  /// The six GEMMs of a forward and its backward alone, on what forward(..., true) keeps; writes
  /// the weight gradients.
  void run_gemms(const WeightGradient& dw1, const WeightGradient& dw2) const;

 private:
  void read_counts();
  void multiply(const Tensor& x, const Tensor& weight, bool transpose, const Tensor& y) const;
  void multiply_gradient(const Tensor& dy, const Tensor& x, const WeightGradient& gradient) const;
  Tensor rows_of(const Tensor& x, std::int64_t expert) const;

  RoutingPlan plan_;
  Tensor w1_, w2_;  // [E, 2F, D], [E, D, F]
  kernels::Activation kind_;
  bool loops_;
  std::vector<std::int32_t> host_offsets_;
  Tensor rows_, h_, a_, y_;  // kept for backward
};

}  // namespace smoe
