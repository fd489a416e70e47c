#include "layers/transformer.h"

#include <memory>
#include <optional>
#include <utility>

#include "autograd/recompute.h"
#include "autograd/rotary_table.h"
#include "autograd/tape.h"
#include "core/base/instrument.h"
#include "core/state.h"
#include "layers/layer_kinds.h"

namespace smoe {

DecoderLayer::DecoderLayer(const LayerSpec& spec)
    : input_norm_(spec.name + ".input_layernorm.weight", spec.model.d_model,
                  spec.model.norm_epsilon),
      attention_(make_layer_module(LayerPart::attention, spec)),
      post_attention_norm_(spec.name + ".post_attention_layernorm.weight", spec.model.d_model,
                           spec.model.norm_epsilon),
      mlp_(make_layer_module(LayerPart::mlp, spec)),
      num_attention_routers_(attention_->routers().size()) {
  own(input_norm_);
  own(*attention_);
  own(post_attention_norm_);
  own(*mlp_);
}

std::vector<Router*> DecoderLayer::routers() {
  std::vector<Router*> routers = attention_->routers();
  for (Router* router : mlp_->routers()) routers.push_back(router);
  return routers;
}

std::vector<PartParameters> DecoderLayer::parts() const {
  std::vector<PartParameters> parts{
      {.part = ModelPart::norms,
       .parameters = {input_norm_.parameters()[0], post_attention_norm_.parameters()[0]}}};
  for (const LayerModule* module : {attention_.get(), mlp_.get()})
    for (PartParameters& part : module->parts()) parts.push_back(std::move(part));
  return parts;
}

// What no later op reads is released before the experts run, where memory is at its peak.
DecoderLayer::Output DecoderLayer::run(Variable residual, Variable delta,
                                       const LayerContext& context) {
  ResidualNorm attention_input = input_norm_.forward(residual, delta);
  residual = delta = {};
  LayerModule::Output attention =
      attention_->forward(attention_input.normed, of_routers(context, 0, num_attention_routers_));
  const ResidualNorm mlp_input = post_attention_norm_.forward(attention_input.sum, attention.y);
  attention_input = {};
  attention.y = {};
  LayerModule::Output mlp = mlp_->forward(
      mlp_input.normed, of_routers(context, num_attention_routers_, std::dynamic_extent));
  std::vector<Routing> routings = std::move(attention.routings);
  for (Routing& routing : mlp.routings) routings.push_back(std::move(routing));
  return {mlp_input.sum, mlp.y, std::move(routings)};
}

// The second run takes the plans of the first, which the segment keeps.
DecoderLayer::Output DecoderLayer::run_recomputed(const Variable& input,
                                                  const LayerContext& context) {
  auto plans = std::make_shared<std::vector<RoutingPlan>>();
  const Segment layer = [this, context, plans](std::span<const Variable> inputs) {
    LayerContext again = context;
    if (!plans->empty()) again.plans = *plans;
    const auto [residual, delta, routings] = run(inputs[0], {}, again);
    std::vector<RoutingPlan> used;
    std::vector outputs{residual, delta};
    for (const Routing& routing : routings) {
      used.push_back(routing.plan);
      outputs.push_back(routing.balance_loss);
      outputs.push_back(routing.z_loss);
    }
    *plans = std::move(used);
    return outputs;
  };
  const auto outputs = recompute("decoder_layer", {input}, parameters(), layer);
  std::vector<Routing> routings;
  for (std::size_t i = 0; i < plans->size(); ++i)
    routings.push_back({(*plans)[i], {}, outputs[2 * i + 2], outputs[2 * i + 3]});
  return {outputs[0], outputs[1], std::move(routings)};
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
    layers_.push_back(std::make_unique<DecoderLayer>(
        LayerSpec{"model.layers." + std::to_string(i), config_, rotary_table}));
    own(*layers_.back());
    for (Router* router : layers_.back()->routers()) routers_.push_back(router);
  }
  own(norm_);
  if (!c.tie_embeddings) {
    lm_head_ = std::make_unique<Linear>("lm_head.weight", c.d_model, c.vocab_size, c.init_std);
    own(*lm_head_);
  }
  freeze_untrained();
}

void Transformer::freeze_untrained() {
  const std::string& text = config_.train_only;
  if (text.empty()) return;
  bool is_any_trained = false;
  for (Parameter* parameter : parameters()) {
    const bool is_named = parameter->name().find(text) != std::string::npos;
    if (!is_named) parameter->freeze();
    is_any_trained = is_any_trained || (is_named && parameter->trains());
  }
  SMOE_CHECK(is_any_trained, "transformer: train_only must be a part of a parameter's name, as of ",
             layers_.back()->mlp().parameters().back()->name(), "; got '", text, "'");
}

std::vector<PartParameters> Transformer::parts() const {
  std::vector<PartParameters> parts{
      {.part = ModelPart::embedding, .parameters = embedding_.parameters()},
      {.part = ModelPart::norms, .parameters = norm_.parameters()}};
  if (lm_head_) parts.push_back({.part = ModelPart::head, .parameters = lm_head_->parameters()});
  return parts;
}

// Over the routers that are trained: the load of others cannot be balanced.
Variable Transformer::mean(const std::vector<Routing>& routings, Variable Routing::*loss) const {
  std::vector<Variable> losses;
  for (std::size_t i = 0; i < routings.size(); ++i)
    if (routers_[i]->trains()) losses.push_back(routings[i].*loss);
  if (losses.empty()) {
    const DType compute = embedding_.weight().value().dtype();
    return Tensor::zeros({1}, accumulation_dtype(compute));
  }
  return weighted_sum(losses, std::vector<double>(losses.size(), 1.0 / losses.size()));
}

Transformer::Hidden Transformer::hidden(const Tensor& token_ids, const ForwardContext& context,
                                        const KeyValueCache* cache) {
  SMOE_CHECK(token_ids.rank() == 1 && token_ids.dim(0) == context.num_tokens(),
             "transformer: token_ids must be [B*S=", context.num_tokens(), "]; got ",
             token_ids.shape());
  const auto* const forced = context.forced_routing;
  SMOE_CHECK(!forced || forced->size() == routers_.size(),
             "transformer: forced_routing must have one plan for each of ", routers_.size(),
             " routers; got ", forced ? forced->size() : 0);
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
    if (forced)
      layer_context.plans =
          std::span(*forced).subspan(routings.size(), layers_[i]->routers().size());
    DecoderLayer::Output output =
        layers_[i]->forward(std::move(residual), std::move(delta), layer_context);
    residual = std::move(output.residual);
    delta = std::move(output.delta);
    for (Routing& routing : output.routings) routings.push_back(std::move(routing));
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

void Transformer::visit_state(StateVisitor& visitor) {
  for (Router* router : routers_)
    if (router->trains()) router->visit_state(visitor);
  for (const auto& layer : layers_) {
    layer->attention().visit_state(visitor);
    layer->mlp().visit_state(visitor);
  }
}

void Transformer::visit_frozen(StateVisitor& visitor) {
  for (Router* router : routers_)
    if (!router->trains()) router->visit_state(visitor);
}

}  // namespace smoe
