// Attention: causal grouped-query attention with rotary positions, as in Mixtral. The query, key
// and value projections are fused into one matrix; its parts have their Hugging Face names.
#pragma once
#include "layers/layer_module.h"
#include "layers/linear.h"

namespace smoe {

class Attention : public LayerModule {
 public:
  /// Parameters are named `name`.q_proj.weight and so on. Layers that run one after the other may
  /// share a table.
  Attention(const std::string& name, const ModelConfig& config,
            std::shared_ptr<RotaryTable> rotary_table);

  /// x [T, D], sequence after sequence -> [T, D]. With a KV cache, the tokens follow those in the
  /// cache and are appended to it.
  Output forward(const Variable& x, const LayerContext& context) override;
  std::vector<PartParameters> parts() const override {
    return {{.part = ModelPart::attention, .parameters = parameters()}};
  }
  double attention_flops(std::int64_t seq_len) const override;

 private:
  std::int64_t num_heads_, num_kv_heads_, head_dim_;
  double rope_theta_;
  std::shared_ptr<RotaryTable> rotary_table_;
  Linear qkv_;  // [(H + 2 Hkv) C, D]
  Linear out_;  // [D, H C]
};

}  // namespace smoe
