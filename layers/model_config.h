// The architecture of a model: the `model` section of a config, as plain data.
#pragma once
#include <cstdint>

#include "layers/model_types.h"

namespace smoe {

struct RouterConfig {
  RouterScore score = RouterScore::softmax_topk_renorm;
  double balance_loss = 0.01;      ///< coefficient; the loss is 1.0 at perfect balance
  double z_loss = 0.0;             ///< coefficient of mean(logsumexp(logits)^2)
  double jitter = 0.0;             ///< router input times uniform [1-j, 1+j] in training
  double selection_bias_rate = 0;  ///< sigmoid only: step size of the selection bias
};

struct ModelConfig {
  std::int64_t vocab_size = 0;  ///< 0: taken from the dataset
  std::int64_t num_layers = 0;
  std::int64_t d_model = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t d_expert = 0;
  std::int64_t num_experts = 0;
  std::int64_t top_k = 0;
  std::int64_t num_shared_experts = 0;  ///< of width d_expert, applied to every token
  Activation activation = Activation::swiglu;
  bool tie_embeddings = false;
  double rope_theta = 10000.0;
  double norm_epsilon = 1e-5;
  double init_std = 0.02;  ///< of embeddings; see layers/init.h for projections
  RouterConfig router;
};

}  // namespace smoe
