#include "train/huggingface/model_family.h"

#include "core/base/check.h"
#include "core/system/json_reader.h"
#include "train/huggingface/config_reader.h"
#include "train/huggingface/jetmoe.h"
#include "train/huggingface/mixtral.h"

namespace smoe {
namespace {

constexpr std::size_t kMaxConfigDepth = 16;

// What no family can represent otherwise.
void check_any_family(const ModelConfig& m, ModelFamily family) {
  const auto check = [&](bool holds, const char* key, const char* rule) {
    SMOE_CHECK(holds, key, ": must be ", rule, " to be exported as ", name_of(family));
  };
  // Softmax over the top k equals renormalized softmax over all experts.
  check(m.router.score == RouterScore::softmax_topk_renorm ||
            m.router.score == RouterScore::topk_softmax,
        "model.router.score", "softmax_topk_renorm or topk_softmax");
  check(m.num_shared_experts == 0, "model.num_shared_experts", "0");
  check(m.mlp.kind == "moe", "model.mlp.kind", "moe");
  check(m.train_only.empty(), "model.train_only", "empty");
}

// The keys that all families read alike; `config` has the values of those that are absent.
void read_common_keys(ConfigReader& reader, HuggingFaceConfig& config) {
  ModelConfig& m = config.model;
  reader.only("attention_dropout", 0.0);
  if (reader.find("quantization_config")) reader.refuse("quantization_config", "absent");
  m.vocab_size = reader.size("vocab_size");
  m.num_layers = reader.size("num_hidden_layers");
  m.d_model = reader.size("hidden_size");
  m.d_expert = reader.size("intermediate_size");
  m.num_experts = reader.size("num_local_experts");
  m.top_k = reader.size("num_experts_per_tok");
  m.tie_embeddings = reader.flag("tie_word_embeddings", m.tie_embeddings);
  m.rope_theta = reader.rope_theta(m.rope_theta);
  m.norm_epsilon = reader.number("rms_norm_eps", m.norm_epsilon);
  m.init_std = reader.number("initializer_range", m.init_std);
  config.max_positions = reader.size("max_position_embeddings", config.max_positions);
  config.begin_token = reader.token("bos_token_id", m.vocab_size);
  config.end_token = reader.token("eos_token_id", m.vocab_size);
}

nlohmann::ordered_json common_keys(const HuggingFaceConfig& config, DType dtype) {
  const ModelConfig& m = config.model;
  const auto id_of = [](std::optional<std::int32_t> token) {
    return token ? nlohmann::ordered_json(*token) : nlohmann::ordered_json();
  };
  return {
      {"vocab_size", m.vocab_size},
      {"num_hidden_layers", m.num_layers},
      {"hidden_size", m.d_model},
      {"num_key_value_heads", m.num_kv_heads},
      {"intermediate_size", m.d_expert},
      {"num_local_experts", m.num_experts},
      {"num_experts_per_tok", m.top_k},
      {"max_position_embeddings", config.max_positions},
      {"rms_norm_eps", m.norm_epsilon},
      {"rope_theta", m.rope_theta},
      {"rope_parameters", {{"rope_theta", m.rope_theta}, {"rope_type", "default"}}},
      {"attention_dropout", 0.0},
      {"tie_word_embeddings", m.tie_embeddings},
      {"initializer_range", m.init_std},
      {"output_router_logits", false},
      {"use_cache", true},
      {"torch_dtype", dtype == DType::bf16 ? "bfloat16" : "float32"},
      {"bos_token_id", id_of(config.begin_token)},
      {"eos_token_id", id_of(config.end_token)},
  };
}

}  // namespace

const char* name_of(ModelFamily family) {
  return family == ModelFamily::mixtral ? "Mixtral" : "JetMoE";
}

HuggingFaceConfig parse_model_config(const std::string& text, const std::string& path) {
  const nlohmann::json json = parse_json(text, path, kMaxConfigDepth);
  ConfigReader reader(json, path);
  const nlohmann::json* const type = reader.find("model_type");
  const bool is_jetmoe = type && *type == "jetmoe";
  if (!is_jetmoe && !(type && *type == "mixtral"))
    reader.refuse("model_type", "\"mixtral\" or \"jetmoe\"");
  HuggingFaceConfig config = is_jetmoe ? jetmoe_defaults() : mixtral_defaults();
  read_common_keys(reader, config);
  is_jetmoe ? read_jetmoe_keys(reader, config) : read_mixtral_keys(reader, config);
  check_model_rules(config.model, path);
  config.unknown_keys = reader.unknown_keys();
  return config;
}

ModelFamily family_of(const ModelConfig& model) {
  const auto family = model.attention.kind == "moa" ? ModelFamily::jetmoe : ModelFamily::mixtral;
  family == ModelFamily::jetmoe ? check_is_jetmoe(model) : check_is_mixtral(model);
  check_any_family(model, family);
  return family;
}

std::string model_config_text(const HuggingFaceConfig& config, DType dtype) {
  nlohmann::ordered_json json =
      config.family == ModelFamily::jetmoe ? jetmoe_keys(config.model) : mixtral_keys(config.model);
  json.update(common_keys(config, dtype));
  return json.dump(2) + "\n";
}

double balance_loss_of(double aux_loss_coefficient, const ModelConfig& model) {
  return aux_loss_coefficient * static_cast<double>(model.top_k);
}

double aux_loss_coefficient_of(const ModelConfig& model) {
  return model.router.balance_loss / static_cast<double>(model.top_k);
}

bool has_output_bias(const KindConfig& kind) {
  const auto setting = kind.settings.find("output_bias");
  return setting != kind.settings.end() && std::get<bool>(setting->second);
}

std::vector<ParameterPart> zero_tensors(const HuggingFaceConfig& config) {
  return config.family == ModelFamily::jetmoe ? jetmoe_zero_tensors(config.model)
                                              : std::vector<ParameterPart>{};
}

std::vector<ParameterPart> file_tensors(ModelFamily family, const Parameter& parameter) {
  return family == ModelFamily::jetmoe ? std::vector{jetmoe_tensor(parameter)} : parameter.parts();
}

}  // namespace smoe
