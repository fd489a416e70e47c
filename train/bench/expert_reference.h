// ExpertReference: what a layer's experts must compute.
#pragma once
#include "train/bench/expert_variant.h"

namespace smoe {

/// The results of the loop over experts, or for one ParallelLinear and a mixture of attention of
/// gathered copies, whose output is checked against sums in double for some tokens. The dense
/// variant and moe_mlp's GEMMs, other functions, are checked against sums in double alone.
class ExpertReference {
 public:
  /// Throws: InternalError when the loop itself is wrong.
  ExpertReference(const ExpertInputs& inputs, bool trains);

  /// Runs `variant` once; returns the largest difference over the largest value, of its output and,
  /// if it trains, of its gradients.
  double error_of(VariantKind kind, ExpertVariant& variant, bool trains) const;

 private:
  double sampled_error(const Tensor& out, VariantKind kind) const;
  double sampled_attention_error(const Tensor& out) const;
  double sampled_linear_error(const Tensor& out, const LinearMode& mode, bool is_plain) const;

  const ExpertInputs& in_;
  Tensor out_, dx_, dw1_, dw2_, dw3_;  // on the device
};

}  // namespace smoe
