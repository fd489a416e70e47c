// The architecture of a model: the `model` section of a config, as plain data. What each field
// means is said once, in train/config/schema.cpp.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <variant>

#include "layers/model_types.h"

namespace smoe {

struct RouterConfig {
  RouterScore score = RouterScore::softmax_topk_renorm;
  double balance_loss = 0.01;
  double z_loss = 0.0;
  double jitter = 0.0;
  double selection_bias_rate = 0;
};

using KindValue = std::variant<std::int64_t, double, bool, std::string>;

/// The kind of every layer's attention or MLP, by its name in layers/layer_kinds.h.
struct KindConfig {
  std::string kind;
  std::map<std::string, KindValue> settings = {};  ///< of the kind's own; defaults where absent
};

struct ModelConfig {
  std::int64_t vocab_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t d_model = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t d_expert = 0;
  std::int64_t num_experts = 0;
  std::int64_t top_k = 0;
  std::int64_t num_shared_experts = 0;
  Activation activation = Activation::swiglu;
  bool tie_embeddings = false;
  double rope_theta = 10000.0;
  double norm_epsilon = 1e-5;
  double init_std = 0.02;
  std::int64_t max_positions = 0;
  std::string train_only = {};
  KindConfig attention = {.kind = "gqa"};
  KindConfig mlp = {.kind = "moe"};
  RouterConfig router;
};

}  // namespace smoe
