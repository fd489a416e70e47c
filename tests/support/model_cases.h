// Model configurations and batches that tests share.
#pragma once
#include <string_view>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"
#include "layers/model_config.h"

namespace smoe::test {

/// Two layers, five experts, and no dimension that is a multiple of a tile.
inline ModelConfig small_model_config() {
  return {.vocab_size = 31,
          .num_layers = 2,
          .d_model = 24,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 6,
          .d_expert = 20,
          .num_experts = 5,
          .top_k = 2,
          .router = {}};
}

/// A mixture of attention for small_model_config: two of three experts, of two query heads each.
inline KindConfig small_attention_mixture(bool output_bias = false) {
  return {.kind = "moa",
          .settings = {{"num_experts", std::int64_t{3}},
                       {"top_k", std::int64_t{2}},
                       {"output_bias", output_bias}}};
}

/// The 1.5B model of the ScatterMoE paper (arXiv:2403.08245).
inline ModelConfig scatter_moe_1_5b() {
  return {.vocab_size = 32000,
          .num_layers = 16,
          .d_model = 1024,
          .num_heads = 8,
          .num_kv_heads = 2,
          .head_dim = 128,
          .d_expert = 3584,
          .num_experts = 8,
          .top_k = 2,
          .router = {}};
}

/// `count` token ids in [0, vocab_size); the same for the same name.
inline std::vector<std::int32_t> random_ids(std::string_view name, std::int64_t count,
                                            std::int64_t vocab_size) {
  RandomStream random(7, hash_name(name));
  std::vector<std::int32_t> ids(count);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.below(vocab_size));
  return ids;
}

/// i32 [count].
inline Tensor ids_tensor(const std::vector<std::int32_t>& ids) {
  return Tensor::from(ids, {static_cast<std::int64_t>(ids.size())});
}

}  // namespace smoe::test
