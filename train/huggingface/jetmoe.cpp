#include "train/huggingface/jetmoe.h"

#include <array>
#include <utility>

#include "layers/mixture_of_attention.h"

namespace smoe {
namespace {

// transformers passes rms_norm_eps to the last norm only; the layers' norms have this default.
constexpr double kNormEpsilon = 1e-6;

// Ends of parameter names and of tensor names.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kTensorNames = {{
    {".self_attn.gate.weight", ".self_attention.experts.router.layer.weight"},
    {".self_attn.experts.q_proj.weight", ".self_attention.experts.input_linear.weight"},
    {".self_attn.kv_proj.weight", ".self_attention.kv_proj.weight"},
    {".self_attn.experts.o_proj.weight", ".self_attention.experts.output_linear.weight"},
    {".self_attn.output_bias", ".self_attention.experts.bias"},
    {".block_sparse_moe.gate.weight", ".mlp.router.layer.weight"},
    {".block_sparse_moe.experts.w1_w3.weight", ".mlp.input_linear.weight"},
    {".block_sparse_moe.experts.w2.weight", ".mlp.output_linear.weight"},
    {".block_sparse_moe.output_bias", ".mlp.bias"},
}};

Activation read_activation(ConfigReader& reader) {
  const nlohmann::json* const name = reader.find("activation_function");
  if (!name || *name == "silu" || *name == "swish") return Activation::swiglu;
  if (*name == "gelu") return Activation::geglu;
  reader.refuse("activation_function", "\"silu\" or \"gelu\"");
}

}  // namespace

HuggingFaceConfig jetmoe_defaults() {
  HuggingFaceConfig config;
  config.family = ModelFamily::jetmoe;
  config.max_positions = 4096;
  config.model.tie_embeddings = true;
  config.model.rope_theta = 1e4;
  config.model.norm_epsilon = kNormEpsilon;
  config.model.init_std = 0.01;
  return config;
}

void read_jetmoe_keys(ConfigReader& reader, HuggingFaceConfig& config) {
  reader.only("architectures", nlohmann::json::array({"JetMoeForCausalLM"}));
  ModelConfig& m = config.model;
  m.num_kv_heads = reader.size("num_key_value_heads");
  m.head_dim = reader.size("kv_channels");
  m.num_heads = m.num_kv_heads * m.top_k;
  if (reader.size("num_attention_heads", m.num_heads) != m.num_heads)
    reader.refuse("num_attention_heads",
                  concat("num_key_value_heads * num_experts_per_tok=", m.num_heads, ", or absent"));
  m.activation = read_activation(reader);
  if (m.norm_epsilon != kNormEpsilon)
    reader.refuse("rms_norm_eps", "1e-06, which transformers uses in the layers in any case");
  m.router.score = RouterScore::topk_softmax;
  m.router.balance_loss = balance_loss_of(reader.number("aux_loss_coef", 0.01), m);
  m.attention = {
      .kind = "moa",
      .settings = {{"num_experts", m.num_experts}, {"top_k", m.top_k}, {"output_bias", true}}};
  m.mlp.settings = {{"output_bias", true}};
}

void check_is_jetmoe(const ModelConfig& m) {
  const auto check = [](bool holds, const std::string& key, const std::string& rule) {
    SMOE_CHECK(holds, key, ": must be ", rule, " to be exported as JetMoE");
  };
  const MixtureOfAttention::Settings attention(m.attention.settings);
  check(attention.num_experts == m.num_experts, "model.attention.num_experts",
        concat("model.num_experts=", m.num_experts));
  check(attention.top_k == m.top_k, "model.attention.top_k", concat("model.top_k=", m.top_k));
  check(m.num_heads == m.num_kv_heads * m.top_k, "model.num_heads",
        concat("model.num_kv_heads * model.top_k=", m.num_kv_heads * m.top_k));
  check(m.activation == Activation::swiglu || m.activation == Activation::geglu, "model.activation",
        "swiglu or geglu");
  check(m.norm_epsilon == kNormEpsilon, "model.norm_epsilon", "1e-6");
}

nlohmann::ordered_json jetmoe_keys(const ModelConfig& m) {
  return {
      {"architectures", {"JetMoeForCausalLM"}},
      {"model_type", "jetmoe"},
      {"kv_channels", m.head_dim},
      {"activation_function", m.activation == Activation::geglu ? "gelu" : "silu"},
      {"aux_loss_coef", aux_loss_coefficient_of(m)},
  };
}

std::vector<ParameterPart> jetmoe_zero_tensors(const ModelConfig& m) {
  std::vector<ParameterPart> tensors;
  for (std::int64_t i = 0; i < m.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    if (!has_output_bias(m.attention))
      tensors.push_back({layer + ".self_attention.experts.bias", {m.d_model}});
    if (!has_output_bias(m.mlp)) tensors.push_back({layer + ".mlp.bias", {m.d_model}});
  }
  return tensors;
}

ParameterPart jetmoe_tensor(const Parameter& parameter) {
  Shape shape = parameter.shape();
  if (shape.rank() == 4) shape = {shape[0], shape[1] * shape[2], shape[3]};  // GLU and up rows
  for (const auto& [end, tensor_end] : kTensorNames)
    if (parameter.name().ends_with(end)) {
      const std::size_t begin = parameter.name().size() - end.size();
      return {parameter.name().substr(0, begin) + std::string(tensor_end), shape};
    }
  return {parameter.name(), shape};
}

}  // namespace smoe
