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

}  // namespace

const char* name_of(ModelFamily family) {
  return family == ModelFamily::mixtral ? "Mixtral" : "JetMoE";
}

HuggingFaceConfig parse_model_config(const std::string& text, const std::string& path) {
  const nlohmann::json json = parse_json(text, path, kMaxConfigDepth);
  ConfigReader reader(json, path);
  const nlohmann::json* const type = reader.find("model_type");
  HuggingFaceConfig config;
  if (type && *type == "mixtral")
    config = read_mixtral_config(reader);
  else if (type && *type == "jetmoe")
    config = read_jetmoe_config(reader);
  else
    reader.refuse("model_type", "\"mixtral\" or \"jetmoe\"");
  const std::int64_t vocab_size = config.model.vocab_size;
  config.begin_token = reader.token("bos_token_id", vocab_size);
  config.end_token = reader.token("eos_token_id", vocab_size);
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
      config.family == ModelFamily::jetmoe ? jetmoe_config(config) : mixtral_config(config);
  json["use_cache"] = true;
  json["torch_dtype"] = dtype == DType::bf16 ? "bfloat16" : "float32";
  json["bos_token_id"] = nullptr;
  json["eos_token_id"] = nullptr;
  if (config.begin_token) json["bos_token_id"] = *config.begin_token;
  if (config.end_token) json["eos_token_id"] = *config.end_token;
  return json.dump(2) + "\n";
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
