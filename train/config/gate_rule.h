// A rule of configurations that plan and train warn of.
#pragma once
#include "layers/model_config.h"

namespace smoe {

/// Whether the only gate of each token is always 1, so that the router gets no gradient from the
/// language loss.
inline bool has_constant_gate(const ModelConfig& m) {
  return m.top_k == 1 && m.router.score != RouterScore::softmax_topk;
}

}  // namespace smoe
