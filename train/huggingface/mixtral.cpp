#include "train/huggingface/mixtral.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "core/system/json_reader.h"
#include "core/system/text.h"
#include "train/config/schema.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxConfigDepth = 16;
constexpr std::int64_t kMaxSize = 1'000'000'000;  // limit of sizes in schema.cpp
constexpr double kDefaultRopeTheta = 1e6;

// Keys that do not affect the model's computation.
constexpr std::string_view kWithoutEffect[] = {
    "_name_or_path",
    "dtype",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "return_dict",
    "torch_dtype",
    "output_router_logits",
    "use_cache",
    "id2label",
    "label2id",
    "transformers_version",
    "problem_type",
    "is_encoder_decoder",
    "chunk_size_feed_forward",
};

/// Reads the keys of a config and tracks which were not read.
class ConfigReader {
 public:
  ConfigReader(const Json& object, std::string place) : object_(object), place_(std::move(place)) {
    SMOE_CHECK(object.is_object(), place_, ": must be an object; got ", shown(object));
    for (const std::string_view key : kWithoutEffect) known_.insert(std::string(key));
  }

  /// The value, or nullptr if it is missing or null.
  const Json* find(const char* key) {
    known_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  [[noreturn]] void refuse(const char* key, const std::string& rule) const {
    const auto found = object_.find(key);
    const std::string got = found == object_.end() ? "nothing" : shown(*found);
    throw UsageError(concat(place_, ": ", key, ": must be ", rule, "; got ", got));
  }

  std::int64_t size(const char* key) {
    const Json* value = find(key);
    if (!value) refuse(key, concat("an integer from 1 to ", kMaxSize));
    return checked_integer(*value, place_ + ": " + key, 1, kMaxSize);
  }
  std::int64_t size(const char* key, std::int64_t absent) { return find(key) ? size(key) : absent; }
  double number(const char* key, double absent) {
    const Json* value = find(key);
    if (!value) return absent;
    if (!value->is_number()) refuse(key, "a number");
    return value->get<double>();
  }
  bool flag(const char* key, bool absent) {
    const Json* value = find(key);
    if (!value) return absent;
    if (!value->is_boolean()) refuse(key, "true or false");
    return value->get<bool>();
  }
  /// Refuses any value but `supported`, null or a missing one.
  void only(const char* key, const Json& supported) {
    const Json* value = find(key);
    if (value && *value != supported) refuse(key, supported.dump() + ", or absent");
  }
  std::vector<std::string> unknown_keys() const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object_.items())
      if (known_.count(key) == 0) keys.push_back(printable(key));
    return keys;
  }

 private:
  const Json& object_;
  std::string place_;
  std::set<std::string> known_;
};

// transformers 4 writes rope_theta and rope_scaling, 5 writes both inside rope_parameters.
double read_rope_theta(ConfigReader& reader, const std::string& path) {
  const Json* scaling = reader.find("rope_scaling");
  const auto is_default = [&](const char* key) {
    const auto type = scaling->find(key);
    return type != scaling->end() && *type == "default";
  };
  if (scaling && !(scaling->is_object() && (is_default("rope_type") || is_default("type"))))
    reader.refuse("rope_scaling", "null or of type default, for unscaled rotary embeddings");
  const Json* parameters = reader.find("rope_parameters");
  if (!parameters) return reader.number("rope_theta", kDefaultRopeTheta);
  ConfigReader rope(*parameters, path + ": rope_parameters");
  rope.only("rope_type", "default");
  rope.only("partial_rotary_factor", 1.0);
  const double theta = rope.number("rope_theta", kDefaultRopeTheta);
  if (reader.number("rope_theta", theta) != theta)
    reader.refuse("rope_theta", concat("as in rope_parameters, ", theta));
  const auto unknown = rope.unknown_keys();
  SMOE_CHECK(unknown.empty(), path, ": rope_parameters: ", unknown[0],
             ": only rope_type \"default\" with its rope_theta is supported");
  return theta;
}

void refuse_other_models(ConfigReader& reader) {
  if (!reader.find("model_type")) reader.refuse("model_type", "\"mixtral\"");
  reader.only("model_type", "mixtral");
  reader.only("architectures", Json::array({"MixtralForCausalLM"}));
  reader.only("attention_bias", false);
  reader.only("mlp_bias", false);
  reader.only("attention_dropout", 0.0);
  if (reader.find("quantization_config")) reader.refuse("quantization_config", "absent");
  const Json* activation = reader.find("hidden_act");
  if (activation && *activation != "silu" && *activation != "swish")
    reader.refuse("hidden_act", "\"silu\"");
}

void check_window(ConfigReader& reader, std::int64_t max_positions) {
  const Json* window = reader.find("sliding_window");
  if (!window) return;
  if (reader.size("sliding_window") < max_positions)
    reader.refuse("sliding_window",
                  concat("null, or at least max_position_embeddings=", max_positions,
                         ", since sliding-window attention is not supported"));
}

// A token id, or the first of a list of ids; no value if there is none.
std::optional<std::int32_t> read_token(ConfigReader& reader, const char* key,
                                       std::int64_t vocab_size) {
  const Json* value = reader.find(key);
  if (value && value->is_array()) value = value->empty() ? nullptr : &value->front();
  if (!value) return {};
  if (!value->is_number_integer()) reader.refuse(key, "a token id");
  const auto id = value->get<std::int64_t>();
  // Small test models have ids outside their vocabulary.
  if (id < 0 || id >= vocab_size) return {};
  return static_cast<std::int32_t>(id);
}

/// Whether the name of a key says that it changes what a model computes.
bool changes_result(const std::string& key, const Json& json) {
  const auto value = json.find(key);
  const bool is_note = key.starts_with('_') || key.ends_with("implementation");
  if (value == json.end() || value->is_null() || is_note) return false;
  for (const char* word :
       {"expert", "moe", "router", "topk", "norm", "bias", "rope", "rotary", "attention", "attn",
        "window", "softcap", "scal", "multiplier", "residual", "mlp", "layer", "clip", "qk_"})
    if (key.find(word) != std::string::npos) return true;
  return false;
}

/// Checks the model against the rules of schema.cpp.
void check_rules(const ModelConfig& model, const std::string& path) {
  Config config;
  config.model = model;
  config.train.micro_batch = 1;  // a relation divides by it
  std::map<std::string, std::string, std::less<>> values;
  const auto check = [&](std::string_view key, bool holds, const std::string& rule) {
    SMOE_CHECK(holds, path, ": ", key, ": must be ", rule, "; got ", values.find(key)->second);
  };
  for (const Field& field : fields_of(config)) {
    if (!field.key.starts_with("model.")) continue;
    values[field.key] = to_yaml(field.target);
    check(field.key, field.rule.holds(field.target), field.rule.text);
  }
  for (const auto& [key, holds, rule] : relations_of(config))
    if (key.starts_with("model.")) check(key, holds, rule);
}

}  // namespace

MixtralConfig parse_mixtral_config(const std::string& text, const std::string& path) {
  const Json json = parse_json(text, path, kMaxConfigDepth);
  ConfigReader reader(json, path);
  refuse_other_models(reader);
  MixtralConfig config;
  ModelConfig& m = config.model;
  m.vocab_size = reader.size("vocab_size");
  m.num_layers = reader.size("num_hidden_layers");
  m.d_model = reader.size("hidden_size");
  m.num_heads = reader.size("num_attention_heads");
  // transformers' default; null means one per query head.
  m.num_kv_heads =
      reader.size("num_key_value_heads", json.contains("num_key_value_heads") ? m.num_heads : 8);
  m.head_dim = reader.size("head_dim", std::max<std::int64_t>(1, m.d_model / m.num_heads));
  m.d_expert = reader.size("intermediate_size");
  m.num_experts = reader.size("num_local_experts");
  m.top_k = reader.size("num_experts_per_tok");
  m.tie_embeddings = reader.flag("tie_word_embeddings", false);
  m.rope_theta = read_rope_theta(reader, path);
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
  config.begin_token = read_token(reader, "bos_token_id", m.vocab_size);
  config.end_token = read_token(reader, "eos_token_id", m.vocab_size);
  check_rules(m, path);
  config.unknown_keys = reader.unknown_keys();
  for (const std::string& key : config.unknown_keys)
    if (changes_result(key, json)) reader.refuse(key.c_str(), "absent: it is not supported");
  return config;
}

void check_is_mixtral(const ModelConfig& m) {
  const auto check = [](bool holds, const char* key, const char* rule) {
    SMOE_CHECK(holds, key, ": must be ", rule, " to be exported as Mixtral");
  };
  check(m.activation == Activation::swiglu, "model.activation", "swiglu");
  // Softmax over the top k equals renormalized softmax over all experts.
  check(m.router.score == RouterScore::softmax_topk_renorm ||
            m.router.score == RouterScore::topk_softmax,
        "model.router.score", "softmax_topk_renorm or topk_softmax");
  check(m.num_shared_experts == 0, "model.num_shared_experts", "0");
  check(m.attention.kind == "gqa", "model.attention.kind", "gqa");
  check(m.mlp.kind == "moe", "model.mlp.kind", "moe");
  check(m.train_only.empty(), "model.train_only", "empty");
}

std::string mixtral_config_text(const MixtralConfig& config, DType dtype) {
  const ModelConfig& m = config.model;
  check_is_mixtral(m);
  const char* torch_dtype = dtype == DType::bf16 ? "bfloat16" : "float32";
  nlohmann::ordered_json json = {
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
      {"use_cache", true},
      {"torch_dtype", torch_dtype},
      {"bos_token_id", nullptr},
      {"eos_token_id", nullptr},
  };
  if (config.begin_token) json["bos_token_id"] = *config.begin_token;
  if (config.end_token) json["eos_token_id"] = *config.end_token;
  return json.dump(2) + "\n";
}

}  // namespace smoe
