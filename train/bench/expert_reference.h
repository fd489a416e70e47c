// ExpertReference: what a layer's experts must compute.
#pragma once
#include "train/bench/expert_variant.h"

namespace smoe {

/// The results of the loop over experts, or for one ParallelLinear of gathered copies, whose output
/// is checked against sums in double for some tokens. The dense variant, another function, is
/// checked against sums in double alone.
class ExpertReference {
 public:
  /// Throws: InternalError when the loop itself is wrong.
  ExpertReference(const ExpertInputs& inputs, bool trains);

  /// Runs `variant` once; returns the largest difference over the largest value, of its output and,
  /// if it trains, of its gradients.
  double error_of(VariantKind kind, ExpertVariant& variant, bool trains) const;

 private:
  double sampled_error(const Tensor& out, bool is_dense) const;
  double sampled_linear_error(const Tensor& out) const;

  const ExpertInputs& in_;
  Tensor out_, dx_, dw1_, dw2_;  // of the loop, on the device
};

}  // namespace smoe
