#include "train/huggingface/mixtral.h"

#include <doctest/doctest.h>

#include "tests/support/temporary_folder.h"

using namespace smoe;

namespace {

// As written by transformers 4, without irrelevant keys.
const std::string kConfig = R"({
  "architectures": ["MixtralForCausalLM"],
  "attention_dropout": 0.0,
  "bos_token_id": 1,
  "eos_token_id": 2,
  "hidden_act": "silu",
  "hidden_size": 48,
  "initializer_range": 0.03,
  "intermediate_size": 20,
  "max_position_embeddings": 512,
  "model_type": "mixtral",
  "num_attention_heads": 6,
  "num_experts_per_tok": 2,
  "num_hidden_layers": 3,
  "num_key_value_heads": 2,
  "num_local_experts": 8,
  "output_router_logits": false,
  "rms_norm_eps": 1e-06,
  "rope_theta": 1000000.0,
  "router_aux_loss_coef": 0.02,
  "sliding_window": null,
  "tie_word_embeddings": false,
  "torch_dtype": "bfloat16",
  "transformers_version": "4.36.0",
  "use_cache": true,
  "vocab_size": 100
})";

std::string with(const std::string& from, const std::string& to) {
  std::string text = kConfig;
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void check_refused(const std::string& from, const std::string& to, const std::string& message) {
  CHECK(message_of([&] { parse_model_config(with(from, to), "c.json"); }) == "c.json: " + message);
}

}  // namespace

TEST_CASE("a config of transformers 4 is parsed") {
  const HuggingFaceConfig config = parse_model_config(kConfig, "c.json");
  const ModelConfig& m = config.model;
  CHECK(m.vocab_size == 100);
  CHECK(m.num_layers == 3);
  CHECK(m.d_model == 48);
  CHECK(m.num_heads == 6);
  CHECK(m.num_kv_heads == 2);
  CHECK(m.head_dim == 8);
  CHECK(m.d_expert == 20);
  CHECK(m.num_experts == 8);
  CHECK(m.top_k == 2);
  CHECK(!m.tie_embeddings);
  CHECK(m.rope_theta == 1e6);
  CHECK(m.norm_epsilon == 1e-6);
  CHECK(m.init_std == 0.03);
  CHECK(m.router.balance_loss == 0.04);
  CHECK(config.max_positions == 512);
  CHECK(config.begin_token == 1);
  CHECK(config.end_token == 2);
  CHECK(config.unknown_keys.empty());
}

TEST_CASE("the rotary base of transformers 5 and an explicit head width are read") {
  const std::string text = with(R"("rope_theta": 1000000.0)",
                                R"("rope_parameters": {"rope_theta": 77.0, "rope_type": "default"},
                                   "head_dim": 10, "dtype": "float32", "_unsloth": 1)");
  const HuggingFaceConfig config = parse_model_config(text, "c.json");
  CHECK(config.model.rope_theta == 77);
  CHECK(config.model.head_dim == 10);
  CHECK(config.unknown_keys == std::vector<std::string>{"_unsloth"});
}

TEST_CASE("unsupported settings are refused with the supported ones") {
  check_refused(R"("mixtral")", R"("mistral")",
                "model_type: must be \"mixtral\" or \"jetmoe\"; got \"mistral\"");
  check_refused(R"("model_type")", R"("other")",
                "model_type: must be \"mixtral\" or \"jetmoe\"; got nothing");
  check_refused(R"("silu")", R"("gelu")", "hidden_act: must be \"silu\"; got \"gelu\"");
  check_refused(R"("sliding_window": null)", R"("sliding_window": 511)",
                "sliding_window: must be null, or at least max_position_embeddings=512, since "
                "sliding-window attention is not supported; got 511");
  CHECK_NOTHROW(
      parse_model_config(with(R"("sliding_window": null)", R"("sliding_window": 512)"), "c.json"));
  check_refused(R"("attention_dropout": 0.0)", R"("attention_dropout": 0.1)",
                "attention_dropout: must be 0.0, or absent; got 0.1");
  check_refused(R"("use_cache": true)", R"("attention_bias": true)",
                "attention_bias: must be false, or absent; got true");
  check_refused(
      R"("use_cache": true)", R"("rope_scaling": {"type": "yarn"})",
      "rope_scaling: must be null or of type default, for unscaled rotary embeddings; got "
      "an object");
  CHECK_NOTHROW(parse_model_config(
      with(R"("use_cache": true)", R"("rope_scaling": {"rope_type": "default"})"), "c.json"));
  check_refused(R"("use_cache": true)", R"("num_shared_experts": 2)",
                "num_shared_experts: must be absent: it is not supported; got 2");
  check_refused(R"("use_cache": true)", R"("norm_topk_prob": false)",
                "norm_topk_prob: must be absent: it is not supported; got false");
  CHECK_NOTHROW(parse_model_config(
      with(R"("use_cache": true)", R"("_attn_implementation": "eager")"), "c.json"));
  check_refused(R"("use_cache": true)", R"("rope_parameters": {"rope_type": "yarn"})",
                "rope_parameters: rope_type: must be \"default\", or absent; got \"yarn\"");
  check_refused(R"("use_cache": true)", R"("rope_parameters": {"rope_theta": 5})",
                "rope_theta: must be as in rope_parameters, 5; got 1000000.0");
  check_refused(R"("use_cache": true)", R"("rope_parameters": {"rope_theta": 1e6, "factor": 2})",
                "rope_parameters: factor: only rope_type \"default\" with its rope_theta is "
                "supported");
  check_refused(R"("use_cache": true)", R"("quantization_config": {})",
                "quantization_config: must be absent; got an object");
  check_refused(R"("MixtralForCausalLM")", R"("MixtralForTokenClassification")",
                "architectures: must be [\"MixtralForCausalLM\"], or absent; got an array");
}

TEST_CASE("invalid sizes are refused") {
  check_refused(R"("vocab_size": 100)", R"("vocab_size": 0)",
                "vocab_size: must be an integer from 1 to 1000000000; got 0");
  check_refused(R"("vocab_size")", R"("vocabulary")",
                "vocab_size: must be an integer from 1 to 1000000000; got nothing");
  check_refused(R"("num_key_value_heads": 2)", R"("num_key_value_heads": 4)",
                "model.num_heads: must be a multiple of model.num_kv_heads=4; got 6");
  check_refused(R"("num_experts_per_tok": 2)", R"("num_experts_per_tok": 9)",
                "model.top_k: must be at most model.num_experts=8; got 9");
  check_refused(R"("rms_norm_eps": 1e-06)", R"("rms_norm_eps": "small")",
                "rms_norm_eps: must be a number; got \"small\"");
  check_refused(R"("rms_norm_eps": 1e-06)", R"("rms_norm_eps": 0)",
                "model.norm_epsilon: must be above 0; got 0");
  check_refused(R"("vocab_size": 100)", R"("vocab_size": 100, "vocab_size": 5)",
                "keys must occur once in an object; got vocab_size twice");
}

TEST_CASE("a config survives a round trip") {
  HuggingFaceConfig config = parse_model_config(kConfig, "c.json");
  config.model.tie_embeddings = true;
  config.model.head_dim = 6;
  config.begin_token = config.end_token = 99;
  const HuggingFaceConfig again =
      parse_model_config(model_config_text(config, DType::f32), "again");
  CHECK(model_config_text(again, DType::f32) == model_config_text(config, DType::f32));
  CHECK(again.model.tie_embeddings);
  CHECK(again.model.head_dim == 6);
  CHECK(again.end_token == 99);
  CHECK(again.unknown_keys.empty());
}

TEST_CASE("a model that Mixtral cannot represent is not exported") {
  const HuggingFaceConfig mixtral = parse_model_config(kConfig, "c.json");
  const auto refusal = [&](auto change) {
    ModelConfig model = mixtral.model;
    change(model);
    return message_of([&] { family_of(model); });
  };
  CHECK(refusal([](ModelConfig& m) { m.router.score = RouterScore::topk_softmax; }) == "no error");
  CHECK(refusal([](ModelConfig& m) { m.router.score = RouterScore::sigmoid; }) ==
        "model.router.score: must be softmax_topk_renorm or topk_softmax to be exported as "
        "Mixtral");
  CHECK(refusal([](ModelConfig& m) { m.activation = Activation::geglu; }) ==
        "model.activation: must be swiglu to be exported as Mixtral");
  CHECK(refusal([](ModelConfig& m) { m.num_shared_experts = 1; }) ==
        "model.num_shared_experts: must be 0 to be exported as Mixtral");
}
