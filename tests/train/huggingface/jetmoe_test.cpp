#include "train/huggingface/jetmoe.h"

#include <doctest/doctest.h>

#include "layers/transformer.h"
#include "tests/support/temporary_folder.h"

using namespace smoe;

namespace {

// As written by transformers 5, without irrelevant keys.
const std::string kJetMoe = R"({
  "activation_function": "silu",
  "architectures": ["JetMoeForCausalLM"],
  "attention_dropout": 0.0,
  "aux_loss_coef": 0.02,
  "bos_token_id": 1,
  "eos_token_id": 2,
  "hidden_size": 48,
  "initializer_range": 0.03,
  "intermediate_size": 20,
  "kv_channels": 8,
  "max_position_embeddings": 512,
  "model_type": "jetmoe",
  "num_attention_heads": 6,
  "num_experts_per_tok": 2,
  "num_hidden_layers": 3,
  "num_key_value_heads": 3,
  "num_local_experts": 8,
  "rms_norm_eps": 1e-06,
  "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"},
  "tie_word_embeddings": false,
  "vocab_size": 100
})";

std::string jetmoe_with(const std::string& from, const std::string& to) {
  std::string text = kJetMoe;
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void check_jetmoe_refused(const std::string& from, const std::string& to,
                          const std::string& message) {
  CHECK(message_of([&] { parse_model_config(jetmoe_with(from, to), "c.json"); }) ==
        "c.json: " + message);
}

std::string why_not_jetmoe(const std::function<void(ModelConfig&)>& change) {
  ModelConfig model = parse_model_config(kJetMoe, "c.json").model;
  change(model);
  return message_of([&] { family_of(model); });
}

}  // namespace

TEST_CASE("a config of JetMoE is parsed") {
  const HuggingFaceConfig config = parse_model_config(kJetMoe, "c.json");
  CHECK(config.family == ModelFamily::jetmoe);
  const ModelConfig& m = config.model;
  CHECK(m.num_heads == 6);
  CHECK(m.num_kv_heads == 3);
  CHECK(m.head_dim == 8);
  CHECK(m.rope_theta == 5000);
  CHECK(m.norm_epsilon == 1e-6);
  CHECK(m.router.balance_loss == 0.04);
  CHECK(m.attention.kind == "moa");
  CHECK(m.attention.settings.at("num_experts") == KindValue(std::int64_t{8}));
  CHECK(m.attention.settings.at("top_k") == KindValue(std::int64_t{2}));
  CHECK(m.attention.settings.at("output_bias") == KindValue(true));
  CHECK(m.mlp.settings.at("output_bias") == KindValue(true));
  CHECK(config.unknown_keys.empty());
  CHECK(family_of(m) == ModelFamily::jetmoe);
}

TEST_CASE("settings of JetMoE that are not supported are refused by name") {
  check_jetmoe_refused(R"("num_attention_heads": 6)", R"("num_attention_heads": 12)",
                       "num_attention_heads: must be num_key_value_heads * num_experts_per_tok=6, "
                       "or absent; got 12");
  check_jetmoe_refused(R"("silu")", R"("relu")",
                       "activation_function: must be \"silu\" or \"gelu\"; got \"relu\"");
  check_jetmoe_refused(R"(1e-06)", R"(1e-05)",
                       "rms_norm_eps: must be 1e-06, which transformers uses in the layers in any "
                       "case; got 1e-05");
  check_jetmoe_refused(R"("attention_dropout": 0.0)", R"("attention_dropout": 0.1)",
                       "attention_dropout: must be 0.0, or absent; got 0.1");
  check_jetmoe_refused(R"("num_experts_per_tok": 2)", R"("num_experts_per_tok": 9)",
                       "num_attention_heads: must be num_key_value_heads * "
                       "num_experts_per_tok=27, or absent; got 6");
  check_jetmoe_refused(R"("num_key_value_heads": 3)", R"("num_query_heads": 3)",
                       "num_key_value_heads: must be an integer from 1 to 1000000000; got nothing");
}

TEST_CASE("what JetMoE cannot represent is refused by name") {
  CHECK(why_not_jetmoe([](ModelConfig&) {}) == "no error");
  CHECK(why_not_jetmoe([](ModelConfig& m) {
          m.attention.settings["num_experts"] = std::int64_t{4};
        }) == "model.attention.num_experts: must be model.num_experts=8 to be exported as JetMoE");
  CHECK(why_not_jetmoe([](ModelConfig& m) { m.attention.settings["top_k"] = std::int64_t{1}; }) ==
        "model.attention.top_k: must be model.top_k=2 to be exported as JetMoE");
  CHECK(why_not_jetmoe([](ModelConfig& m) { m.num_heads = 12; }) ==
        "model.num_heads: must be model.num_kv_heads * model.top_k=6 to be exported as JetMoE");
  CHECK(why_not_jetmoe([](ModelConfig& m) { m.norm_epsilon = 1e-5; }) ==
        "model.norm_epsilon: must be 1e-6 to be exported as JetMoE");
  CHECK(why_not_jetmoe([](ModelConfig& m) { m.router.score = RouterScore::sigmoid; }) ==
        "model.router.score: must be softmax_topk_renorm or topk_softmax to be exported as JetMoE");
  CHECK(why_not_jetmoe([](ModelConfig& m) { m.train_only = "experts"; }) ==
        "model.train_only: must be empty to be exported as JetMoE");
  CHECK(why_not_jetmoe([](ModelConfig& m) { m.num_shared_experts = 1; }) ==
        "model.num_shared_experts: must be 0 to be exported as JetMoE");
}

TEST_CASE("a config of JetMoE survives a round trip") {
  HuggingFaceConfig config = parse_model_config(kJetMoe, "c.json");
  config.model.activation = Activation::geglu;
  config.end_token = {};
  const std::string text = model_config_text(config, DType::bf16);
  const HuggingFaceConfig again = parse_model_config(text, "again");
  CHECK(model_config_text(again, DType::bf16) == text);
  CHECK(again.unknown_keys.empty());
}

TEST_CASE("JetMoE's experts are one tensor each, and biases that a model lacks are zero") {
  ModelConfig m = parse_model_config(kJetMoe, "c.json").model;
  const Transformer model(m);
  std::map<std::string, Shape> shapes;
  for (const Parameter* parameter : model.parameters())
    for (const ParameterPart& tensor : file_tensors(ModelFamily::jetmoe, *parameter)) {
      CHECK(tensor.shape.numel() == parameter->numel());
      shapes[tensor.name] = tensor.shape;
    }
  const std::string layer = "model.layers.2.";
  CHECK(shapes.at(layer + "self_attention.experts.input_linear.weight") == Shape{8, 24, 48});
  CHECK(shapes.at(layer + "self_attention.experts.output_linear.weight") == Shape{8, 48, 24});
  CHECK(shapes.at(layer + "self_attention.kv_proj.weight") == Shape{48, 48});
  CHECK(shapes.at(layer + "self_attention.experts.bias") == Shape{48});
  CHECK(shapes.at(layer + "mlp.input_linear.weight") == Shape{8, 40, 48});
  CHECK(shapes.at(layer + "mlp.router.layer.weight") == Shape{8, 48});
  CHECK(shapes.size() == 3 + 3 * 11);
  HuggingFaceConfig config{.family = ModelFamily::jetmoe,
                           .model = m,
                           .max_positions = 8,
                           .begin_token = {},
                           .end_token = {}};
  CHECK(zero_tensors(config).empty());
  config.model.mlp.settings.clear();
  CHECK(zero_tensors(config).size() == 3);
  CHECK(zero_tensors(config)[2].name == "model.layers.2.mlp.bias");
}
