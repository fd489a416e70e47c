// Attention: causal grouped-query attention with rotary positions, as in Mixtral. Query, key and
// value projections are one matrix, whose rows carry their Hugging Face names as parts.
#pragma once
#include "layers/kv_cache.h"
#include "layers/linear.h"
#include "layers/model_config.h"

namespace smoe {

class Attention : public Module {
 public:
  /// Parameters are named `name`.q_proj.weight and so on.
  Attention(const std::string& name, const ModelConfig& config);

  /// x [T, D] of T = batch * seq_len tokens, sequence after sequence -> [T, D]. With `cached`, the
  /// tokens follow those it holds and join them.
  Variable forward(const Variable& x, std::int64_t batch, std::int64_t seq_len,
                   const CachedLayer* cached = nullptr);

 private:
  std::int64_t num_heads_, num_kv_heads_, head_dim_;
  double rope_theta_;
  Linear qkv_;  // [(H + 2 Hkv) C, D]
  Linear out_;  // [D, H C]
};

}  // namespace smoe
