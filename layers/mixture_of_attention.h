// MixtureOfAttention (arXiv:2403.08245, section 3.3; arXiv:2306.04640): each token chooses K of E
// experts, which own the projections of its H / K query heads and of their outputs; keys and values
// are shared by all experts. ParallelLinear keeps the scattered (token, slot) order through both
// projections, so that attention reads the tokens in their sequence and no copy of rows in grouped
// order is kept for backward.
#pragma once
#include <memory>

#include "layers/layer_module.h"
#include "layers/linear.h"
#include "layers/parallel_linear.h"

namespace smoe {

class MixtureOfAttention : public LayerModule {
 public:
  /// The kind's own settings.
  struct Settings {
    std::int64_t num_experts = 0, top_k = 0;
    bool output_bias = false;  ///< a bias [D] after the sum over experts, as in JetMoE

    /// Absent ones have the defaults above.
    explicit Settings(const std::map<std::string, KindValue>& settings);
  };

  /// Parameters, after the layer's name: self_attn.gate.weight, self_attn.experts.{e}.q_proj.weight
  /// and .o_proj.weight, self_attn.k_proj.weight, .v_proj.weight and .output_bias.
  /// Throws: UsageError unless K <= E, and K times the key heads divides the query heads.
  explicit MixtureOfAttention(const LayerSpec& spec);

  Output forward(const Variable& x, const LayerContext& context) override;
  std::vector<Router*> routers() override { return {&router_}; }
  std::vector<PartParameters> parts() const override;
  double attention_flops(std::int64_t seq_len) const override;

 private:
  Settings settings_;
  std::int64_t num_heads_, num_kv_heads_, head_dim_, expert_width_;
  double rope_theta_;
  std::shared_ptr<RotaryTable> rotary_table_;
  Router router_;
  ParallelLinear query_;   // [E, H/K C, D]
  Linear kv_;              // [2 Hkv C, D]
  ParallelLinear output_;  // [E, D, H/K C]
  std::unique_ptr<Parameter> output_bias_;
};

}  // namespace smoe
