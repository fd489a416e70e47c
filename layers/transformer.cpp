#include "layers/transformer.h"

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

DecoderLayer::Output DecoderLayer::forward(const ResidualNorm& stream, RMSNorm& next_norm,
                                           const ForwardContext& context) {
  const Variable attended = attention_.forward(stream.normed, context.batch, context.seq_len);
  const ResidualNorm middle = post_attention_norm_.forward(stream.sum, attended);
  const MoE::Output moe = moe_.forward(middle.normed, context);
  return {next_norm.forward(middle.sum, moe.y), moe.balance_loss, moe.z_loss};
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

Transformer::Hidden Transformer::hidden(const Tensor& token_ids, const ForwardContext& context) {
  SMOE_CHECK(token_ids.rank() == 1 && token_ids.dim(0) == context.num_tokens(),
             "transformer: token_ids must be [B*S=", context.num_tokens(), "]; got ",
             token_ids.shape());
  const Variable embedded = embedding_.forward(token_ids);  // [T, D]
  ResidualNorm stream{embedded, layers_.front()->input_norm().forward(embedded)};
  std::vector<Variable> balance_losses, z_losses;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    RMSNorm& next = i + 1 < layers_.size() ? layers_[i + 1]->input_norm() : norm_;
    DecoderLayer::Output output = layers_[i]->forward(stream, next, context);
    stream = output.stream;
    balance_losses.push_back(output.balance_loss);
    z_losses.push_back(output.z_loss);
  }
  return {stream.normed, mean(balance_losses), mean(z_losses)};
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

std::vector<Tensor> Transformer::expert_load() {
  std::vector<Tensor> load;
  for (const auto& layer : layers_) load.push_back(layer->moe().router().load());
  return load;
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
