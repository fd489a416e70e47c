#include "train/huggingface/config_reader.h"

#include <map>
#include <string_view>

#include "core/system/json_reader.h"
#include "core/system/text.h"
#include "train/config/schema.h"

namespace smoe {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kMaxSize = 1'000'000'000;  // limit of sizes in schema.cpp

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

}  // namespace

ConfigReader::ConfigReader(const Json& object, std::string place)
    : object_(object), place_(std::move(place)) {
  SMOE_CHECK(object.is_object(), place_, ": must be an object; got ", shown(object));
  for (const std::string_view key : kWithoutEffect) known_.insert(std::string(key));
}

const Json* ConfigReader::find(const char* key) {
  known_.insert(key);
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void ConfigReader::refuse(const char* key, const std::string& rule) const {
  const auto found = object_.find(key);
  const std::string got = found == object_.end() ? "nothing" : shown(*found);
  throw UsageError(concat(place_, ": ", key, ": must be ", rule, "; got ", got));
}

std::int64_t ConfigReader::size(const char* key) {
  const Json* value = find(key);
  if (!value) refuse(key, concat("an integer from 1 to ", kMaxSize));
  return checked_integer(*value, place_ + ": " + key, 1, kMaxSize);
}

double ConfigReader::number(const char* key, double absent) {
  const Json* value = find(key);
  if (!value) return absent;
  if (!value->is_number()) refuse(key, "a number");
  return value->get<double>();
}

bool ConfigReader::flag(const char* key, bool absent) {
  const Json* value = find(key);
  if (!value) return absent;
  if (!value->is_boolean()) refuse(key, "true or false");
  return value->get<bool>();
}

void ConfigReader::only(const char* key, const Json& supported) {
  const Json* value = find(key);
  if (value && *value != supported) refuse(key, supported.dump() + ", or absent");
}

std::optional<std::int32_t> ConfigReader::token(const char* key, std::int64_t vocab_size) {
  const Json* value = find(key);
  if (value && value->is_array()) value = value->empty() ? nullptr : &value->front();
  if (!value) return {};
  if (!value->is_number_integer()) refuse(key, "a token id");
  const auto id = value->get<std::int64_t>();
  // Small test models have ids outside their vocabulary.
  if (id < 0 || id >= vocab_size) return {};
  return static_cast<std::int32_t>(id);
}

// transformers 4 writes rope_theta and rope_scaling, 5 writes both inside rope_parameters.
double ConfigReader::rope_theta(double absent) {
  const Json* scaling = find("rope_scaling");
  const auto is_default = [&](const char* key) {
    const auto type = scaling->find(key);
    return type != scaling->end() && *type == "default";
  };
  if (scaling && !(scaling->is_object() && (is_default("rope_type") || is_default("type"))))
    refuse("rope_scaling", "null or of type default, for unscaled rotary embeddings");
  const Json* parameters = find("rope_parameters");
  if (!parameters) return number("rope_theta", absent);
  ConfigReader rope(*parameters, place_ + ": rope_parameters");
  rope.only("rope_type", "default");
  rope.only("partial_rotary_factor", 1.0);
  const double theta = rope.number("rope_theta", absent);
  if (number("rope_theta", theta) != theta)
    refuse("rope_theta", concat("as in rope_parameters, ", theta));
  const auto unread = rope.unread_keys();
  SMOE_CHECK(unread.empty(), place_, ": rope_parameters: ", unread[0],
             ": only rope_type \"default\" with its rope_theta is supported");
  return theta;
}

std::vector<std::string> ConfigReader::unread_keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object_.items())
    if (known_.count(key) == 0) keys.push_back(printable(key));
  return keys;
}

std::vector<std::string> ConfigReader::unknown_keys() const {
  const std::vector<std::string> keys = unread_keys();
  for (const std::string& key : keys)
    if (changes_result(key, object_)) refuse(key.c_str(), "absent: it is not supported");
  return keys;
}

void check_model_rules(const ModelConfig& model, const std::string& path) {
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

}  // namespace smoe
