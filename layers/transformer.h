// Transformer: the decoder-only language model, Mixtral-like: RMSNorm, grouped-query attention with
// rotary positions, and a sparse mixture of experts in every layer, or modules of other kinds in
// their places (layer_kinds.h). Parameters are named as in Hugging Face's Mixtral files.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "layers/embedding.h"
#include "layers/kv_cache.h"
#include "layers/layer_module.h"
#include "layers/rms_norm.h"

namespace smoe {

class StateVisitor;

/// Losses of one batch, each [1] in the accumulation dtype.
struct ModelLosses {
  Variable total;          ///< the loss to start backward from
  Variable cross_entropy;  ///< loss_scale * sum over tokens
  Variable balance;        ///< mean over routers that are trained; 1.0 at perfect balance
  Variable z;              ///< mean over routers that are trained
};

class DecoderLayer : public Module {
 public:
  explicit DecoderLayer(const LayerSpec& spec);

  /// The layer's result is residual + delta; the norm that reads it fuses the addition.
  struct Output {
    Variable residual;              ///< [T, D]
    Variable delta;                 ///< [T, D]
    std::vector<Routing> routings;  ///< of its routers; `gates` is undefined with Recompute::block
  };

  /// Applies the layer to residual + delta, both [T, D]; delta may be undefined. Releases both as
  /// soon as they are read (move them in).
  Output forward(Variable residual, Variable delta, const LayerContext& context);

  /// Those of the attention, then those of the MLP.
  std::vector<Router*> routers();
  LayerModule& attention() const { return *attention_; }
  LayerModule& mlp() const { return *mlp_; }
  /// All parameters by part of the model.
  std::vector<PartParameters> parts() const;

 private:
  Output run(Variable residual, Variable delta, const LayerContext& context);
  Output run_recomputed(const Variable& input, const LayerContext& context);

  RMSNorm input_norm_;
  std::unique_ptr<LayerModule> attention_;
  RMSNorm post_attention_norm_;
  std::unique_ptr<LayerModule> mlp_;
  std::size_t num_attention_routers_;
};

class Transformer : public Module {
 public:
  /// Throws: UsageError for an unknown kind of layer, settings that do not fit it, or a train_only
  /// that no parameter's name contains.
  explicit Transformer(const ModelConfig& config);

  /// Losses of a batch: token_ids and targets i32 [T], sequence after sequence; a target of -1 is
  /// ignored. total = loss_scale * sum of cross-entropies
  ///                  + aux_scale * (balance_loss * balance + z_loss * z).
  ModelLosses losses(const Tensor& token_ids, const Tensor& targets, double loss_scale,
                     double aux_scale, const ForwardContext& context);

  /// Logits [T, V] of every position.
  Variable logits(const Tensor& token_ids, const ForwardContext& context);

  /// A cache for generation with this model, in its compute dtype.
  KeyValueCache new_cache(std::int64_t batch, std::int64_t capacity);
  /// Processes the next S tokens of each of cache.batch() sequences, i32 [B*S], which follow those
  /// in the cache and are appended to it. Returns the logits [B, V] of each sequence's last token.
  /// Throws: UsageError if the cache cannot hold S more tokens, or while ops are recorded.
  Tensor next_logits(const Tensor& token_ids, KeyValueCache& cache);

  /// All routers, in model order.
  const std::vector<Router*>& routers() const { return routers_; }
  /// Visits the state other than parameters: selection biases of routers that are trained, and that
  /// of modules.
  void visit_state(StateVisitor& visitor);
  /// Visits the selection biases of routers that are not trained.
  void visit_frozen(StateVisitor& visitor);

  const ModelConfig& config() const { return config_; }
  std::span<const std::unique_ptr<DecoderLayer>> layers() const { return layers_; }
  /// All parameters but those of layers by part of the model.
  std::vector<PartParameters> parts() const;

 private:
  struct Hidden {
    Variable normed;        // [T, D], after the final norm
    Variable balance_loss;  // [1], mean over routers that are trained
    Variable z_loss;        // [1], the same
  };
  Hidden hidden(const Tensor& token_ids, const ForwardContext& context,
                const KeyValueCache* cache = nullptr);
  void freeze_untrained();
  Variable mean(const std::vector<Routing>& routings, Variable Routing::*loss) const;
  Parameter& head() { return lm_head_ ? lm_head_->weight() : embedding_.weight(); }

  ModelConfig config_;
  Embedding embedding_;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  RMSNorm norm_;
  std::unique_ptr<Linear> lm_head_;  // null if the embedding is also the head
  std::vector<Router*> routers_;
};

}  // namespace smoe
