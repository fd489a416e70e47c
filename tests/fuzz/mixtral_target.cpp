// config.json of a model to import.
#include "tests/fuzz/target.h"
#include "train/huggingface/model_family.h"

namespace smoe::fuzz {
namespace {

HuggingFaceConfig sample() {
  HuggingFaceConfig config;
  ModelConfig& m = config.model;
  m.vocab_size = 300;
  m.num_layers = 2;
  m.d_model = 16;
  m.num_heads = 4;
  m.num_kv_heads = 2;
  m.head_dim = 4;
  m.d_expert = 8;
  m.num_experts = 4;
  m.top_k = 2;
  m.tie_embeddings = false;
  config.max_positions = 128;
  config.begin_token = 1;
  return config;
}

void read(const std::string& input) {
  const HuggingFaceConfig config = parse_model_config(input, "config.json");
  const std::string text = model_config_text(config, DType::f32);
  const HuggingFaceConfig again = parse_model_config(text, "again");
  require(again.unknown_keys.empty(), "writes unknown keys");
  // The loss coefficient is divided and multiplied, so its last bit may differ.
  require(model_config_text(again, DType::f32).size() + 20 > text.size() &&
              again.model.head_dim == config.model.head_dim &&
              again.model.vocab_size == config.model.vocab_size &&
              again.model.rope_theta == config.model.rope_theta &&
              again.begin_token == config.begin_token && again.end_token == config.end_token &&
              again.max_positions == config.max_positions,
          "reads back as another model:\n", text);
}

}  // namespace

Target mixtral_target(const Playground& playground) {
  Target target;
  target.seeds = {model_config_text(sample(), DType::bf16)};
  HuggingFaceConfig jetmoe = sample();
  jetmoe.family = ModelFamily::jetmoe;
  jetmoe.model.norm_epsilon = 1e-6;
  target.seeds.push_back(model_config_text(jetmoe, DType::f32));
  std::string old = target.seeds[0];  // as transformers 4 writes it
  old.replace(old.find("\"rope_parameters\""), 17, "\"quantum\"");
  target.seeds.push_back(old);
  target.dictionary = {"{",
                       "}",
                       "[",
                       "]",
                       ",",
                       ":",
                       "\"",
                       "null",
                       "true",
                       "{\"a\":",
                       "[[",
                       "1e999",
                       "-1.5",
                       "1.0",
                       "\\u0000",
                       "\"rope_scaling\": {",
                       "\"sliding_window\": ",
                       "\"quantization_config\": ",
                       "\"hidden_act\": ",
                       "\"rope_theta\": ",
                       "\"num_local_experts\": ",
                       "\"eos_token_id\": [",
                       "\"auto_map\": ",
                       "\"_name_or_path\": ",
                       "\xff",
                       "\"" + playground.canary + "\""};
  target.read = read;
  return target;
}

}  // namespace smoe::fuzz
