// How large a model is and what a token costs, from its configuration alone.
#pragma once
#include <vector>

#include "layers/forward_context.h"
#include "layers/model_config.h"

namespace smoe {

struct ModelSize {
  std::int64_t total = 0;   ///< parameters
  std::int64_t active = 0;  ///< of them, those a token is multiplied with: k of E experts, all
                            ///< shared ones, and no embedding table, which is looked up, unless it
                            ///< is the head too
};

enum class ModelPart : std::uint8_t {
  embedding,
  attention,
  router,
  experts,
  shared_experts,
  norms,
  head,
};
/// "embedding", "shared experts", ...
const char* name_of(ModelPart part);

/// The parameters of one part, over all layers.
struct ParameterGroup {
  ModelPart part;
  ModelSize size;
};

/// All parameters, in order of use; a group that the model has none of is left out.
std::vector<ParameterGroup> parameter_groups(const ModelConfig& config);

/// Their sum.
ModelSize model_size(const ModelConfig& config);

/// Floating-point operations of one token, two for a multiply-add. Counted are products of matrices
/// and nothing else. Attention is causal and counted at half: S/2 keys for a query.
struct TokenFlops {
  double weights = 0;     ///< products with active weights, forward
  double attention = 0;   ///< queries with keys and probabilities with values, forward
  double recomputed = 0;  ///< of the forward pass, a second time in backward

  double forward() const { return weights + attention; }
  /// Forward and backward, which takes two products for each of the forward pass. This is what
  /// utilisation is counted by: recomputation does not raise it.
  double training() const { return 3 * forward(); }
};

/// For sequences of `seq_len` tokens.
TokenFlops flops_per_token(const ModelConfig& config, std::int64_t seq_len,
                           Recompute recompute = Recompute::none);

}  // namespace smoe
