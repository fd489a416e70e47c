// Enumerations of a model's configuration, without the ops and kernels that implement them.
#pragma once
#include <cstdint>

#include "kernels/model_types.h"

namespace smoe {

using kernels::Activation;
using kernels::RouterScore;

/// What backward recomputes instead of keeping it from the forward pass. Gradients are
/// bit-identical for all values; experts are always chosen only once.
enum class Recompute : std::uint8_t {
  none,
  experts,  ///< the experts' pre-activations, at the cost of their first GEMM
  block,    ///< everything except each decoder layer's input and routing plan: its whole forward
};

/// What a model's parameters belong to, in tables of sizes.
enum class ModelPart : std::uint8_t {
  embedding,
  attention,
  router,
  experts,
  shared_experts,
  modules,  ///< of a kind that says nothing else
  norms,
  head,
};

}  // namespace smoe
