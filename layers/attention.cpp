#include "layers/attention.h"

#include "layers/init.h"
#include "layers/kv_cache.h"

namespace smoe {
namespace {

Parameter::Options projection_parts(const std::string& name, const ModelConfig& c) {
  const Shape q{c.num_heads * c.head_dim, c.d_model};
  const Shape kv{c.num_kv_heads * c.head_dim, c.d_model};
  return {.parts = {{name + ".q_proj.weight", q},
                    {name + ".k_proj.weight", kv},
                    {name + ".v_proj.weight", kv}}};
}

}  // namespace

Attention::Attention(const std::string& name, const ModelConfig& c,
                     std::shared_ptr<RotaryTable> rotary_table)
    : num_heads_(c.num_heads),
      num_kv_heads_(c.num_kv_heads),
      head_dim_(c.head_dim),
      rope_theta_(c.rope_theta),
      rotary_table_(std::move(rotary_table)),
      qkv_(name + ".qkv_proj.weight", c.d_model, (c.num_heads + 2 * c.num_kv_heads) * c.head_dim,
           projection_std(c.d_model), projection_parts(name, c)),
      out_(name + ".o_proj.weight", c.num_heads * c.head_dim, c.d_model,
           residual_projection_std(c.num_heads * c.head_dim, c.num_layers)) {
  own(qkv_);
  own(out_);
}

LayerModule::Output Attention::forward(const Variable& x, const LayerContext& context) {
  const AttentionShape shape{.batch = context.batch,
                             .seq_len = context.seq_len,
                             .num_heads = num_heads_,
                             .num_kv_heads = num_kv_heads_,
                             .head_dim = head_dim_};
  const CachedLayer* const cached = context.cached;
  const std::int64_t first_position = cached ? cached->length : 0;
  const Variable qkv = rotary_linear(x, qkv_.weight(), shape, rope_theta_, first_position,
                                     rotary_table_);  // [T, (H + 2 Hkv) C]
  const Variable attended =
      cached ? cached_attention(qkv.data(), shape, cached->keys_and_values, cached->length)
             : causal_attention(qkv, shape);  // [T, H C]
  return {.y = out_.forward(attended)};       // [T, D]
}

// Two dot products of head_dim elements, 2 FLOPs each, with half of the sequence.
double Attention::attention_flops(std::int64_t seq_len) const {
  return 2 * 2 * static_cast<double>(num_heads_ * head_dim_) * static_cast<double>(seq_len) / 2;
}

}  // namespace smoe
