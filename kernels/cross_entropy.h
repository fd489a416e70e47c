// Cross-entropy of logits, and its gradient in place of the logits.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels {

/// losses[t] = logsumexp(logits[t]) - logits[t, targets[t]], and 0 where the target is -1. With
/// `write_gradient` each logit is then overwritten by scale * (softmax - one-hot), 0 where the
/// target is -1; otherwise logits are not modified. Targets are trusted to be -1 or in [0, V).
struct CrossEntropyArgs {
  Matrix logits;                ///< [T, V]
  const std::int32_t* targets;  ///< [T]
  void* losses;                 ///< [T], accumulation dtype
  bool write_gradient;
  double scale;  ///< of the gradient only
};
void cross_entropy(const Launch& launch, const CrossEntropyArgs& args);

/// total = scale * sum of losses, accumulated in double in an order that depends only on numel.
struct SumLossesArgs {
  const void* losses;  ///< [numel]
  void* total;         ///< [1]
  DType dtype;         ///< of both: f32 or f64
  std::int64_t numel;
  double scale;
};
void sum_losses(const Launch& launch, const SumLossesArgs& args);

}  // namespace smoe::kernels
