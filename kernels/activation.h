// Expert activation functions: a = act(h), and their backward.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/model_types.h"

namespace smoe::kernels {

/// Columns of the pre-activations h for F columns of activations.
constexpr std::int64_t preactivation_width(Activation kind, std::int64_t f) {
  return is_gated(kind) ? 2 * f : f;
}

/// a = act(h), computed in the accumulation dtype and rounded once.
struct ActivationArgs {
  Activation kind;
  ConstMatrix h;  ///< [N, 2F] gated, [N, F] plain
  Matrix a;       ///< [N, F], h's dtype
};
void activation_forward(const Launch& launch, const ActivationArgs& args);

/// dh from da; the derivative of act is recomputed from h.
struct ActivationBackwardArgs {
  Activation kind;
  ConstMatrix h;   ///< [N, 2F] gated, [N, F] plain
  ConstMatrix da;  ///< [N, F], h's dtype
  Matrix dh;       ///< h's shape and dtype; may be h itself
};
void activation_backward(const Launch& launch, const ActivationBackwardArgs& args);

}  // namespace smoe::kernels
