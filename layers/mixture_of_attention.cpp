#include "layers/mixture_of_attention.h"

#include "layers/init.h"
#include "layers/kv_cache.h"

namespace smoe {
namespace {

using Settings = MixtureOfAttention::Settings;

Settings checked(const Settings& s, const ModelConfig& c) {
  SMOE_CHECK(s.top_k >= 1 && s.top_k <= s.num_experts,
             "mixture of attention: top_k must be from 1 to num_experts=", s.num_experts, "; got ",
             s.top_k);
  SMOE_CHECK(c.num_heads % (s.top_k * c.num_kv_heads) == 0,
             "mixture of attention: num_heads must be a multiple of top_k * num_kv_heads=",
             s.top_k * c.num_kv_heads, "; got ", c.num_heads);
  return s;
}

Parameter::Options expert_parts(const std::string& name, std::int64_t num_experts,
                                const char* matrix, const Shape& shape) {
  Parameter::Options options;
  for (std::int64_t e = 0; e < num_experts; ++e)
    options.parts.push_back({name + ".experts." + std::to_string(e) + "." + matrix, shape});
  return options;
}

Parameter::Options kv_parts(const std::string& name, const ModelConfig& c) {
  const Shape kv{c.num_kv_heads * c.head_dim, c.d_model};
  return {.parts = {{name + ".k_proj.weight", kv}, {name + ".v_proj.weight", kv}}};
}

std::string name_of(const LayerSpec& spec) {
  return spec.name + ".self_attn";
}

}  // namespace

MixtureOfAttention::Settings::Settings(const std::map<std::string, KindValue>& settings) {
  for (const auto& [name, value] : settings) {
    if (name == "num_experts") num_experts = std::get<std::int64_t>(value);
    if (name == "top_k") top_k = std::get<std::int64_t>(value);
    if (name == "output_bias") output_bias = std::get<bool>(value);
  }
}

MixtureOfAttention::MixtureOfAttention(const LayerSpec& spec)
    : settings_(checked(Settings(spec.settings), spec.model)),
      num_heads_(spec.model.num_heads),
      num_kv_heads_(spec.model.num_kv_heads),
      head_dim_(spec.model.head_dim),
      expert_width_(num_heads_ / settings_.top_k * head_dim_),
      rope_theta_(spec.model.rope_theta),
      rotary_table_(spec.rotary_table),
      router_(name_of(spec) + ".gate", {spec.model.d_model, settings_.num_experts, settings_.top_k},
              spec.model.router),
      query_(name_of(spec) + ".experts.q_proj", settings_.num_experts, spec.model.d_model,
             expert_width_, projection_std(spec.model.d_model),
             {.input = RowLayout::scattered,
              .output = RowLayout::scattered,
              .weight = expert_parts(name_of(spec), settings_.num_experts, "q_proj.weight",
                                     {expert_width_, spec.model.d_model})}),
      kv_(name_of(spec) + ".kv_proj.weight", spec.model.d_model, 2 * num_kv_heads_ * head_dim_,
          projection_std(spec.model.d_model), kv_parts(name_of(spec), spec.model)),
      // Gates sum the rows of a token, so that there is no order of output rows.
      output_(name_of(spec) + ".experts.o_proj", settings_.num_experts, expert_width_,
              spec.model.d_model, residual_projection_std(expert_width_, spec.model.num_layers),
              {.input = RowLayout::scattered,
               .weight = expert_parts(name_of(spec), settings_.num_experts, "o_proj.weight",
                                      {spec.model.d_model, expert_width_})}) {
  own(router_);
  own(query_);
  own(kv_);
  own(output_);
  if (!settings_.output_bias) return;
  output_bias_ =
      std::make_unique<Parameter>(name_of(spec) + ".output_bias", Shape{spec.model.d_model},
                                  Init::constant(0), Parameter::Options{.decays = false});
  own(*output_bias_);
}

LayerModule::Output MixtureOfAttention::forward(const Variable& x, const LayerContext& context) {
  const CachedLayer* const cached = context.cached;
  const std::int64_t first_position = cached ? cached->length : 0;
  const AttentionShape shape{.batch = context.batch,
                             .seq_len = context.seq_len,
                             .num_heads = num_heads_,
                             .num_kv_heads = num_kv_heads_,
                             .head_dim = head_dim_,
                             .is_interleaved = true};
  AttentionShape queries = shape, keys = shape;
  queries.num_kv_heads = 0;
  keys.num_heads = 0;

  const Routing routing = router_.forward(x, context);
  // Nothing else refers to the projection when it is rotated, which then works in place.
  Variable q = query_.forward(x, routing.plan);  // [N, H/K C]
  // The K rows of a token side by side are the heads of its experts, one expert after the other.
  q = reshape(q, {shape.num_tokens(), shape.output_width()});
  q = rotary(std::move(q), queries, rope_theta_, first_position, rotary_table_);  // [T, H C]
  const Variable kv = rotary_linear(x, kv_.weight(), keys, rope_theta_, first_position,
                                    rotary_table_);  // [T, 2 Hkv C]
  const Variable attended =
      cached ? cached_attention(q.data(), kv.data(), shape, cached->keys_and_values, cached->length)
             : causal_attention(q, kv, shape);  // [T, H C]
  const Variable rows = reshape(attended, {routing.plan.num_rows(), expert_width_});
  Variable y = output_.forward(rows, routing.plan, routing.gates);  // [T, D]
  if (output_bias_) y = add_bias(std::move(y), *output_bias_);
  return {.y = y, .routings = {routing}};
}

std::vector<PartParameters> MixtureOfAttention::parts() const {
  std::vector<PartParameters> parts{
      {.part = ModelPart::router, .parameters = router_.parameters()},
      {.part = ModelPart::attention,
       .parameters = {query_.parameters()[0], output_.parameters()[0]},
       .top_k = settings_.top_k,
       .num_experts = settings_.num_experts},
      {.part = ModelPart::attention, .parameters = kv_.parameters()}};
  if (output_bias_)
    parts.push_back({.part = ModelPart::attention, .parameters = {output_bias_.get()}});
  return parts;
}

// Two dot products of head_dim elements, 2 FLOPs each, with half of the sequence.
double MixtureOfAttention::attention_flops(std::int64_t seq_len) const {
  return 2 * 2 * static_cast<double>(num_heads_ * head_dim_) * static_cast<double>(seq_len) / 2;
}

}  // namespace smoe
