// Routing: scores, top-k, counting sort by expert, and their backward.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"
#include "kernels/routing_view.h"

namespace smoe::kernels {

/// How router logits [T, E] become gates [T, K].
enum class RouterScore : std::uint8_t {
  softmax_topk_renorm,  ///< softmax over E, top-k, divided by their sum (Mixtral)
  softmax_topk,         ///< softmax over E, top-k, as they are (Switch, OLMoE)
  topk_softmax,         ///< top-k of the logits, softmax over the K
  sigmoid,              ///< sigmoid, top-k of score + selection bias, gates = scores / their sum
};

}  // namespace smoe::kernels
