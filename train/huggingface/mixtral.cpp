#include "train/huggingface/mixtral.h"

#include <algorithm>

namespace smoe {
namespace {

void check_mixtral_settings(ConfigReader& reader) {
  reader.only("architectures", nlohmann::json::array({"MixtralForCausalLM"}));
  reader.only("attention_bias", false);
  reader.only("mlp_bias", false);
  const nlohmann::json* activation = reader.find("hidden_act");
  if (activation && *activation != "silu" && *activation != "swish")
    reader.refuse("hidden_act", "\"silu\"");
}

void check_window(ConfigReader& reader, std::int64_t max_positions) {
  const nlohmann::json* window = reader.find("sliding_window");
  if (!window) return;
  if (reader.size("sliding_window") < max_positions)
    reader.refuse("sliding_window",
                  concat("null, or at least max_position_embeddings=", max_positions,
                         ", since sliding-window attention is not supported"));
}

}  // namespace

HuggingFaceConfig mixtral_defaults() {
  HuggingFaceConfig config;
  config.family = ModelFamily::mixtral;
  config.max_positions = 4096 * 32;
  config.model.tie_embeddings = false;
  config.model.rope_theta = 1e6;
  config.model.norm_epsilon = 1e-5;
  config.model.init_std = 0.02;
  return config;
}

void read_mixtral_keys(ConfigReader& reader, HuggingFaceConfig& config) {
  check_mixtral_settings(reader);
  ModelConfig& m = config.model;
  m.num_heads = reader.size("num_attention_heads");
  // transformers' default; null means one per query head.
  m.num_kv_heads =
      reader.size("num_key_value_heads", reader.has("num_key_value_heads") ? m.num_heads : 8);
  m.head_dim = reader.size("head_dim", std::max<std::int64_t>(1, m.d_model / m.num_heads));
  m.activation = Activation::swiglu;
  m.router.score = RouterScore::softmax_topk_renorm;
  m.router.jitter = reader.number("router_jitter_noise", 0);
  m.router.balance_loss = balance_loss_of(reader.number("router_aux_loss_coef", 0.001), m);
  check_window(reader, config.max_positions);
}

void check_is_mixtral(const ModelConfig& m) {
  const auto check = [](bool holds, const char* key, const char* rule) {
    SMOE_CHECK(holds, key, ": must be ", rule, " to be exported as Mixtral");
  };
  check(m.activation == Activation::swiglu, "model.activation", "swiglu");
  check(m.attention.kind == "gqa", "model.attention.kind", "gqa");
  check(!has_output_bias(m.mlp), "model.mlp.output_bias", "false");
}

nlohmann::ordered_json mixtral_keys(const ModelConfig& m) {
  return {
      {"architectures", {"MixtralForCausalLM"}},
      {"model_type", "mixtral"},
      {"num_attention_heads", m.num_heads},
      {"head_dim", m.head_dim},
      {"hidden_act", "silu"},
      {"sliding_window", nullptr},
      {"router_aux_loss_coef", aux_loss_coefficient_of(m)},
      {"router_jitter_noise", m.router.jitter},
  };
}

}  // namespace smoe
