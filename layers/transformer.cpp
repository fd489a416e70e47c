#include "layers/transformer.h"

#include <memory>
#include <optional>

#include "autograd/recompute.h"
#include "autograd/tape.h"
#include "core/state.h"

namespace smoe {
namespace {

Variable mean(const std::vector<Variable>& scalars) {
  return weighted_sum(scalars, std::vector<double>(scalars.size(), 1.0 / scalars.size()));
}

}  // namespace

DecoderLayer::DecoderLayer(const std::string& name, const ModelConfig& c)
    : input_norm_(name + ".input_layernorm.weight", c.d_model, c.norm_epsilon),
      attention_(name + ".self_attn", c),
      post_attention_norm_(name + ".post_attention_layernorm.weight", c.d_model, c.norm_epsilon),
      moe_(name + ".block_sparse_moe", c) {
  own(input_norm_);
  own(attention_);
  own(post_attention_norm_);
  own(moe_);
}

DecoderLayer::Result DecoderLayer::run(const Variable& residual, const Variable& delta,
                                       const ForwardContext& context, const Routing* earlier,
                                       const CachedLayer* cached) {
  const ResidualNorm stream = input_norm_.forward(residual, delta);
  const Variable attended =
      attention_.forward(stream.normed, context.batch, context.seq_len, cached);
  const ResidualNorm middle = post_attention_norm_.forward(stream.sum, attended);
  const MoE::Output moe = moe_.forward(middle.normed, context, earlier);
  const Routing& routing = moe.routing;
  return {{middle.sum, moe.y, routing.balance_loss, routing.z_loss, routing.plan.expert_ids},
          routing};
}

// The second run follows the routing of the first, which the segment holds on to.
DecoderLayer::Output DecoderLayer::run_twice(const Variable& input, const ForwardContext& context) {
  auto decided = std::make_shared<std::optional<Routing>>();
  const Segment layer = [this, context, decided](std::span<const Variable> inputs) {
    const auto [o, routing] = run(inputs[0], {}, context, *decided ? &**decided : nullptr);
    if (!*decided) *decided = routing;
    return std::vector{o.residual, o.delta, o.balance_loss, o.z_loss};
  };
  const auto outputs = recompute("decoder_layer", {input}, parameters(), layer);
  return {outputs[0], outputs[1], outputs[2], outputs[3], (*decided)->plan.expert_ids};
}

DecoderLayer::Output DecoderLayer::forward(const Variable& residual, const Variable& delta,
                                           const ForwardContext& context,
                                           const CachedLayer* cached) {
  if (context.recompute == Recompute::block && is_recording())
    return run_twice(delta.defined() ? add(residual, delta) : residual, context);
  return run(residual, delta, context, nullptr, cached).output;
}

Transformer::Transformer(const ModelConfig& c)
    : config_(c),
      embedding_("model.embed_tokens.weight", c.vocab_size, c.d_model, c.init_std),
      norm_("model.norm.weight", c.d_model, c.norm_epsilon) {
  own(embedding_);
  for (std::int64_t i = 0; i < c.num_layers; ++i) {
    layers_.push_back(std::make_unique<DecoderLayer>("model.layers." + std::to_string(i), c));
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
  Variable residual = embedding_.forward(token_ids), delta;  // [T, D]
  std::vector<Variable> balance_losses, z_losses;
  std::vector<Tensor> expert_ids;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    std::optional<CachedLayer> cached;
    if (cache) cached.emplace(cache->layer(i), cache->length());
    const DecoderLayer::Output output =
        layers_[i]->forward(residual, delta, context, cached ? &*cached : nullptr);
    residual = output.residual;
    delta = output.delta;
    balance_losses.push_back(output.balance_loss);
    z_losses.push_back(output.z_loss);
    expert_ids.push_back(output.expert_ids);
  }
  return {norm_.forward(residual, delta).normed, mean(balance_losses), mean(z_losses),
          std::move(expert_ids)};
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

std::vector<Tensor> Transformer::expert_ids(const Tensor& token_ids,
                                            const ForwardContext& context) {
  const NoGradScope no_grad;
  return hidden(token_ids, context).expert_ids;
}

void Transformer::follow(const std::vector<Tensor>& expert_ids) {
  SMOE_CHECK(expert_ids.empty() || expert_ids.size() == layers_.size(),
             "transformer: to follow, give the experts of all ", layers_.size(), " layers; got ",
             expert_ids.size());
  for (std::size_t i = 0; i < layers_.size(); ++i)
    layers_[i]->moe().router().follow(expert_ids.empty() ? Tensor() : expert_ids[i]);
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

std::vector<Tensor> Transformer::expert_load() {
  std::vector<Tensor> load;
  for (const auto& layer : layers_) load.push_back(layer->moe().router().load());
  return load;
}

std::vector<Tensor> Transformer::router_losses() {
  std::vector<Tensor> losses;
  for (const auto& layer : layers_) losses.push_back(layer->moe().router().losses());
  return losses;
}

void Transformer::balance_experts() {
  for (const auto& layer : layers_) layer->moe().router().balance();
}

void Transformer::clear_expert_load() {
  for (const auto& layer : layers_) layer->moe().router().clear_load();
}

void Transformer::visit_state(StateVisitor& visitor) {
  for (const auto& layer : layers_) layer->moe().router().visit_state(visitor);
}

}  // namespace smoe
