// Parameter counts and FLOPs per token, computed from the configuration.
#pragma once
#include <vector>

#include "layers/model_config.h"

namespace smoe {

struct ModelSize {
  std::int64_t total = 0;    ///< parameters
  std::int64_t active = 0;   ///< parameters that each token is multiplied with: K of E experts, all
                             ///< shared ones, and not the embedding table, which is looked up,
                             ///< unless it is also the head
  std::int64_t trained = 0;  ///< of all parameters, those with a gradient
};

/// "embedding", "shared experts", ...
const char* name_of(ModelPart part);

/// The parameters of one part, over all layers.
struct ParameterGroup {
  ModelPart part;
  ModelSize size;
};

/// All parameters, in order of use; empty groups are omitted.
std::vector<ParameterGroup> parameter_groups(const ModelConfig& config);

/// Sum over all groups.
ModelSize model_size(const ModelConfig& config);

/// FLOPs per token, with two per multiply-add. Only matrix multiplications are counted. Causal
/// attention counts half: S/2 keys per query.
struct TokenFlops {
  double weights = 0;     ///< GEMMs with active weights, forward
  double attention = 0;   ///< queries with keys and probabilities with values, forward
  double frozen = 0;      ///< those GEMMs whose weights are not trained
  double recomputed = 0;  ///< part of the forward pass that backward runs again

  double forward() const { return weights + attention; }
  /// Forward and backward, which runs two GEMMs per forward GEMM, or one if the weight is not
  /// trained. The numerator of model FLOPs utilization: recomputation is not counted.
  double training() const { return 3 * forward() - frozen; }
};

/// For sequences of `seq_len` tokens, with recomputation in the first `recompute_layers` layers; 0:
/// in all.
TokenFlops flops_per_token(const ModelConfig& config, std::int64_t seq_len,
                           Recompute recompute = Recompute::none,
                           std::int64_t recompute_layers = 0);

}  // namespace smoe
