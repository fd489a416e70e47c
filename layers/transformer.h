// Transformer: the decoder-only language model, Mixtral-like: RMSNorm, grouped-query attention with
// rotary positions, and a sparse mixture of experts in every layer. Parameters are named as in
// Hugging Face's Mixtral files.
#pragma once
#include <memory>
#include <vector>

#include "layers/attention.h"
#include "layers/embedding.h"
#include "layers/moe.h"
#include "layers/rms_norm.h"

namespace smoe {

class StateVisitor;

/// Losses of one batch, each [1] in the accumulation dtype.
struct ModelLosses {
  Variable total;          ///< what backward starts from
  Variable cross_entropy;  ///< times the loss_scale asked for
  Variable balance;        ///< mean over layers; 1.0 is perfect balance
  Variable z;              ///< mean over layers
};

class DecoderLayer : public Module {
 public:
  DecoderLayer(const std::string& name, const ModelConfig& config);

  /// The layer's result is residual + delta; the norm that reads it adds them in its own pass.
  struct Output {
    Variable residual;      ///< [T, D]
    Variable delta;         ///< [T, D]
    Variable balance_loss;  ///< [1]
    Variable z_loss;        ///< [1]
    Tensor expert_ids;      ///< i32 [T, K], each token's experts
  };

  /// The layer on residual + delta, both [T, D]; delta may be undefined. `cached`: what generation
  /// keeps of earlier tokens, or null.
  Output forward(const Variable& residual, const Variable& delta, const ForwardContext& context,
                 const CachedLayer* cached = nullptr);

  MoE& moe() { return moe_; }

 private:
  struct Result {
    Output output;
    Routing routing;
  };
  Result run(const Variable& residual, const Variable& delta, const ForwardContext& context,
             const Routing* earlier, const CachedLayer* cached = nullptr);
  Output run_twice(const Variable& input, const ForwardContext& context);

  RMSNorm input_norm_;
  Attention attention_;
  RMSNorm post_attention_norm_;
  MoE moe_;
};

class Transformer : public Module {
 public:
  explicit Transformer(const ModelConfig& config);

  /// Losses of a batch: token_ids and targets i32 [T], sequence after sequence; a target of -1 does
  /// not count. total = loss_scale * sum of cross-entropies
  ///                  + aux_scale * (balance_loss * balance + z_loss * z).
  ModelLosses losses(const Tensor& token_ids, const Tensor& targets, double loss_scale,
                     double aux_scale, const ForwardContext& context);

  /// Logits [T, V] of every position.
  Variable logits(const Tensor& token_ids, const ForwardContext& context);

  /// Each token's experts in a batch, i32 [T, K], layer after layer.
  std::vector<Tensor> expert_ids(const Tensor& token_ids, const ForwardContext& context);
  /// From now on every layer sends its tokens to these experts, i32 [T, K], layer after layer;
  /// empty: to those it chooses.
  void follow(const std::vector<Tensor>& expert_ids);

  /// A cache for generation with this model, of its compute dtype.
  KeyValueCache new_cache(std::int64_t batch, std::int64_t capacity);
  /// Reads the next tokens of cache.batch() sequences, i32 [B*S], S of each after those that the
  /// cache holds, and joins them to it. Returns the logits [B, V] of each sequence's last token.
  /// Throws: UsageError when the cache has no room for S more, or where ops are recorded.
  Tensor next_logits(const Tensor& token_ids, KeyValueCache& cache);

  /// Rows per expert of this step so far, i64 [E], layer after layer.
  std::vector<Tensor> expert_load();
  /// Balance and z loss summed over this step's micro-batches so far, [2], layer after layer;
  /// undefined before the first step.
  std::vector<Tensor> router_losses();
  /// Moves the selection biases by the load: to be called once an optimizer step.
  void balance_experts();
  /// Makes both zero, for the next step.
  void clear_expert_load();
  /// State that is no parameter: selection biases.
  void visit_state(StateVisitor& visitor);

  const ModelConfig& config() const { return config_; }

 private:
  struct Hidden {
    Variable normed;                 // [T, D], after the final norm
    Variable balance_loss;           // [1], mean over layers
    Variable z_loss;                 // [1], mean over layers
    std::vector<Tensor> expert_ids;  // [T, K] of each layer
  };
  Hidden hidden(const Tensor& token_ids, const ForwardContext& context,
                const KeyValueCache* cache = nullptr);
  Parameter& head() { return lm_head_ ? lm_head_->weight() : embedding_.weight(); }

  ModelConfig config_;
  Embedding embedding_;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  RMSNorm norm_;
  std::unique_ptr<Linear> lm_head_;  // null when the embedding serves as head
};

}  // namespace smoe
