#include "layers/model_size.h"

namespace smoe {

ModelSize model_size(const ModelConfig& c) {
  const std::int64_t expert = (is_gated(c.activation) ? 3 : 2) * c.d_model * c.d_expert;
  const std::int64_t attention = (2 * c.num_heads + 2 * c.num_kv_heads) * c.head_dim * c.d_model;
  const std::int64_t norms = 2 * c.d_model;
  const std::int64_t router = c.num_experts * c.d_model;
  const std::int64_t dense = attention + norms + router + c.num_shared_experts * expert;
  const std::int64_t table = c.vocab_size * c.d_model;
  return {c.num_layers * (dense + c.num_experts * expert) + c.d_model +
              (c.tie_embeddings ? 1 : 2) * table,
          c.num_layers * (dense + c.top_k * expert) + c.d_model + table};
}

}  // namespace smoe
