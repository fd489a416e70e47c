// How large a model is, from its configuration alone.
#pragma once
#include "layers/model_config.h"

namespace smoe {

struct ModelSize {
  std::int64_t total = 0;   ///< parameters
  std::int64_t active = 0;  ///< of them, those a token is multiplied with: k of E experts, all
                            ///< shared ones, and no embedding table, which is looked up, unless it
                            ///< is the head too
};

ModelSize model_size(const ModelConfig& config);

}  // namespace smoe
