#include "layers/transformer.h"

#include <memory>
#include <optional>

#include "autograd/recompute.h"
#include "autograd/rotary_table.h"
#include "autograd/tape.h"
#include "core/base/instrument.h"
#include "core/state.h"

namespace smoe {
namespace {

// The mean of one of the losses over layers.
Variable mean(const std::vector<Routing>& layers, Variable Routing::*loss) {
  std::vector<Variable> losses;
  for (const Routing& layer : layers) losses.push_back(layer.*loss);
  return weighted_sum(losses, std::vector<double>(losses.size(), 1.0 / losses.size()));
}

}  // namespace

DecoderLayer::DecoderLayer(const std::string& name, const ModelConfig& c,
                           std::shared_ptr<RotaryTable> rotary_table)
    : input_norm_(name + ".input_layernorm.weight", c.d_model, c.norm_epsilon),
      attention_(name + ".self_attn", c, std::move(rotary_table)),
      post_attention_norm_(name + ".post_attention_layernorm.weight", c.d_model, c.norm_epsilon),
      moe_(name + ".block_sparse_moe", c) {
  own(input_norm_);
  own(attention_);
  own(post_attention_norm_);
  own(moe_);
}

// What no later op reads is released before the experts run, where memory is at its peak.
DecoderLayer::Output DecoderLayer::run(Variable residual, Variable delta,
                                       const LayerContext& context) {
  ResidualNorm attention_input = input_norm_.forward(residual, delta);
  residual = delta = {};
  Variable attention_output = attention_.forward(attention_input.normed, context);
  const ResidualNorm moe_input =
      post_attention_norm_.forward(attention_input.sum, attention_output);
  attention_input = {};
  attention_output = {};
  const MoE::Output moe = moe_.forward(moe_input.normed, context);
  return {moe_input.sum, moe.y, moe.routing};
}

// The second run takes the plan of the first, which the segment keeps.
DecoderLayer::Output DecoderLayer::run_recomputed(const Variable& input,
                                                  const LayerContext& context) {
  auto plan = std::make_shared<std::optional<RoutingPlan>>();
  const Segment layer = [this, context, plan](std::span<const Variable> inputs) {
    LayerContext again = context;
    if (*plan) again.plan = &**plan;
    const auto [residual, delta, routing] = run(inputs[0], {}, again);
    *plan = routing.plan;
    return std::vector{residual, delta, routing.balance_loss, routing.z_loss};
  };
  const auto outputs = recompute("decoder_layer", {input}, parameters(), layer);
  return {outputs[0], outputs[1], {**plan, {}, outputs[2], outputs[3]}};
}

DecoderLayer::Output DecoderLayer::forward(Variable residual, Variable delta,
                                           const LayerContext& context) {
  if (context.recompute == Recompute::block && is_recording())
    return run_recomputed(delta.defined() ? add(residual, delta) : residual, context);
  return run(std::move(residual), std::move(delta), context);
}

Transformer::Transformer(const ModelConfig& c)
    : config_(c),
      embedding_("model.embed_tokens.weight", c.vocab_size, c.d_model, c.init_std),
      norm_("model.norm.weight", c.d_model, c.norm_epsilon) {
  own(embedding_);
  const auto rotary_table = std::make_shared<RotaryTable>();
  for (std::int64_t i = 0; i < c.num_layers; ++i) {
    layers_.push_back(
        std::make_unique<DecoderLayer>("model.layers." + std::to_string(i), c, rotary_table));
    own(*layers_.back());
  }
  own(norm_);
  if (c.tie_embeddings) return;
  lm_head_ = std::make_unique<Linear>("lm_head.weight", c.d_model, c.vocab_size, c.init_std);
  own(*lm_head_);
}

Transformer::Hidden Transformer::hidden(const Tensor& token_ids, const ForwardContext& context,
                                        const KeyValueCache* cache) {
  SMOE_CHECK(token_ids.rank() == 1 && token_ids.dim(0) == context.num_tokens(),
             "transformer: token_ids must be [B*S=", context.num_tokens(), "]; got ",
             token_ids.shape());
  const auto* const forced = context.forced_routing;
  SMOE_CHECK(!forced || forced->size() == layers_.size(),
             "transformer: forced_routing must have one plan for each of ", layers_.size(),
             " layers; got ", forced ? forced->size() : 0);
  Variable residual = embedding_.forward(token_ids), delta;  // [T, D]
  std::vector<Routing> routings;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const PlaceScope place(place_in_layer(static_cast<std::int64_t>(i)));
    LayerContext layer_context = context;
    const bool is_kept =
        context.recompute_layers > 0 && static_cast<std::int64_t>(i) >= context.recompute_layers;
    if (is_kept) layer_context.recompute = Recompute::none;
    std::optional<CachedLayer> cached;
    if (cache) layer_context.cached = &cached.emplace(cache->layer(i), cache->length());
    if (forced) layer_context.plan = &(*forced)[i];
    DecoderLayer::Output output =
        layers_[i]->forward(std::move(residual), std::move(delta), layer_context);
    residual = std::move(output.residual);
    delta = std::move(output.delta);
    routings.push_back(std::move(output.routing));
  }
  if (context.on_routing) context.on_routing(routings);
  return {norm_.forward(residual, delta).normed, mean(routings, &Routing::balance_loss),
          mean(routings, &Routing::z_loss)};
}

ModelLosses Transformer::losses(const Tensor& token_ids, const Tensor& targets, double loss_scale,
                                double aux_scale, const ForwardContext& context) {
  const Hidden h = hidden(token_ids, context);
  const Variable cross_entropy = lm_head_loss(h.normed, head(), targets, loss_scale);
  const std::vector<Variable> terms{cross_entropy, h.balance_loss, h.z_loss};
  const std::vector<double> weights{1, aux_scale * config_.router.balance_loss,
                                    aux_scale * config_.router.z_loss};
  return {weighted_sum(terms, weights), cross_entropy, h.balance_loss, h.z_loss};
}

Variable Transformer::logits(const Tensor& token_ids, const ForwardContext& context) {
  return linear(hidden(token_ids, context).normed, head());
}

KeyValueCache Transformer::new_cache(std::int64_t batch, std::int64_t capacity) {
  return {config_, batch, capacity, embedding_.weight().value().dtype()};
}

Tensor Transformer::next_logits(const Tensor& token_ids, KeyValueCache& cache) {
  const std::int64_t batch = cache.batch(), seq_len = token_ids.numel() / batch;
  SMOE_CHECK(seq_len > 0 && cache.length() + seq_len <= cache.capacity(),
             "transformer: the cache has room for ", cache.capacity(), " tokens; got ", seq_len,
             " more after ", cache.length());
  const Hidden h = hidden(token_ids, {.batch = batch, .seq_len = seq_len}, &cache);
  cache.advance(seq_len);
  return linear(last_rows(h.normed.data(), batch), head()).data();
}

std::vector<Tensor> Transformer::selection_biases() {
  std::vector<Tensor> biases;
  for (const auto& layer : layers_) biases.push_back(layer->router().selection_bias());
  return biases;
}

void Transformer::visit_state(StateVisitor& visitor) {
  for (const auto& layer : layers_) layer->router().visit_state(visitor);
}

}  // namespace smoe
