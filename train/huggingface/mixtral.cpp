#include "train/huggingface/mixtral.h"

#include <algorithm>

namespace smoe {
namespace {

constexpr double kMixtralRopeTheta = 1e6;

void check_mixtral_settings(ConfigReader& reader) {
  reader.only("architectures", nlohmann::json::array({"MixtralForCausalLM"}));
  reader.only("attention_bias", false);
  reader.only("mlp_bias", false);
  reader.only("attention_dropout", 0.0);
  if (reader.find("quantization_config")) reader.refuse("quantization_config", "absent");
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

HuggingFaceConfig read_mixtral_config(ConfigReader& reader) {
  check_mixtral_settings(reader);
  HuggingFaceConfig config;
  ModelConfig& m = config.model;
  m.vocab_size = reader.size("vocab_size");
  m.num_layers = reader.size("num_hidden_layers");
  m.d_model = reader.size("hidden_size");
  m.num_heads = reader.size("num_attention_heads");
  // transformers' default; null means one per query head.
  m.num_kv_heads =
      reader.size("num_key_value_heads", reader.has("num_key_value_heads") ? m.num_heads : 8);
  m.head_dim = reader.size("head_dim", std::max<std::int64_t>(1, m.d_model / m.num_heads));
  m.d_expert = reader.size("intermediate_size");
  m.num_experts = reader.size("num_local_experts");
  m.top_k = reader.size("num_experts_per_tok");
  m.tie_embeddings = reader.flag("tie_word_embeddings", false);
  m.rope_theta = reader.rope_theta(kMixtralRopeTheta);
  m.norm_epsilon = reader.number("rms_norm_eps", 1e-5);
  m.init_std = reader.number("initializer_range", 0.02);
  m.activation = Activation::swiglu;
  m.router.score = RouterScore::softmax_topk_renorm;
  m.router.jitter = reader.number("router_jitter_noise", 0);
  // At perfect balance transformers' loss is K, smoe's is 1.
  m.router.balance_loss =
      reader.number("router_aux_loss_coef", 0.001) * static_cast<double>(m.top_k);
  config.max_positions = reader.size("max_position_embeddings", 4096 * 32);
  check_window(reader, config.max_positions);
  return config;
}

void check_is_mixtral(const ModelConfig& m) {
  const auto check = [](bool holds, const char* key, const char* rule) {
    SMOE_CHECK(holds, key, ": must be ", rule, " to be exported as Mixtral");
  };
  check(m.activation == Activation::swiglu, "model.activation", "swiglu");
  check(m.attention.kind == "gqa", "model.attention.kind", "gqa");
  check(!has_output_bias(m.mlp), "model.mlp.output_bias", "false");
}

nlohmann::ordered_json mixtral_config(const HuggingFaceConfig& config) {
  const ModelConfig& m = config.model;
  return {
      {"architectures", {"MixtralForCausalLM"}},
      {"model_type", "mixtral"},
      {"vocab_size", m.vocab_size},
      {"num_hidden_layers", m.num_layers},
      {"hidden_size", m.d_model},
      {"num_attention_heads", m.num_heads},
      {"num_key_value_heads", m.num_kv_heads},
      {"head_dim", m.head_dim},
      {"intermediate_size", m.d_expert},
      {"num_local_experts", m.num_experts},
      {"num_experts_per_tok", m.top_k},
      {"hidden_act", "silu"},
      {"max_position_embeddings", config.max_positions},
      {"sliding_window", nullptr},
      {"rms_norm_eps", m.norm_epsilon},
      {"rope_theta", m.rope_theta},
      {"rope_parameters", {{"rope_theta", m.rope_theta}, {"rope_type", "default"}}},
      {"attention_dropout", 0.0},
      {"tie_word_embeddings", m.tie_embeddings},
      {"initializer_range", m.init_std},
      {"router_aux_loss_coef", m.router.balance_loss / static_cast<double>(m.top_k)},
      {"router_jitter_noise", m.router.jitter},
      {"output_router_logits", false},
  };
}

}  // namespace smoe
