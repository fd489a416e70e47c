#include "layers/layer_kinds.h"

#include <algorithm>

#include "layers/attention.h"
#include "layers/mixture_of_attention.h"
#include "layers/moe.h"

namespace smoe {
namespace {

std::deque<LayerKind>& kinds_of(LayerPart part) {
  static const KindSetting kOutputBias{"output_bias", false,
                                       "add a bias after the sum over experts"};
  static std::deque<LayerKind> attention{
      {"gqa",
       {},
       [](const LayerSpec& spec) {
         return std::make_unique<Attention>(spec.name + ".self_attn", spec.model,
                                            spec.rotary_table);
       }},
      {"moa",
       {{"num_experts", std::int64_t{0}, "experts, which own query and output projections", 1},
        {"top_k", std::int64_t{0}, "experts per token, which share the query heads equally", 1},
        kOutputBias},
       [](const LayerSpec& spec) { return std::make_unique<MixtureOfAttention>(spec); }}};
  static std::deque<LayerKind> mlp{{"moe", {kOutputBias}, [](const LayerSpec& spec) {
                                      return std::make_unique<MoE>(
                                          spec.name + ".block_sparse_moe", spec.model,
                                          spec.setting<bool>("output_bias"));
                                    }}};
  return part == LayerPart::attention ? attention : mlp;
}

bool is_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

const char* name_of(LayerPart part) {
  return part == LayerPart::attention ? "attention" : "mlp";
}

}  // namespace

void register_layer_kind(LayerPart part, LayerKind kind) {
  SMOE_CHECK(is_name(kind.name), "register: the name of a kind must be of a-z, 0-9 and _; got '",
             kind.name, "'");
  SMOE_CHECK(!find_layer_kind(part, kind.name), "register: there is already a kind of ",
             name_of(part), " named ", kind.name);
  for (const KindSetting& setting : kind.settings) {
    const auto count = std::count_if(kind.settings.begin(), kind.settings.end(),
                                     [&](const auto& s) { return s.name == setting.name; });
    SMOE_CHECK(is_name(setting.name) && setting.name != "kind" && count == 1,
               "register: ", kind.name,
               ": names of settings must differ, be of a-z, 0-9 and _, and not 'kind'; ", "got '",
               setting.name, "'");
  }
  kinds_of(part).push_back(std::move(kind));
}

const std::deque<LayerKind>& layer_kinds(LayerPart part) {
  return kinds_of(part);
}

const LayerKind* find_layer_kind(LayerPart part, const std::string& name) {
  const std::deque<LayerKind>& kinds = kinds_of(part);
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.name == name; });
  return found == kinds.end() ? nullptr : &*found;
}

std::unique_ptr<LayerModule> make_layer_module(LayerPart part, LayerSpec spec) {
  const KindConfig& config = part == LayerPart::attention ? spec.model.attention : spec.model.mlp;
  const LayerKind* const kind = find_layer_kind(part, config.kind);
  if (!kind) {
    std::string known;
    for (const LayerKind& other : kinds_of(part)) known += (known.empty() ? "" : ", ") + other.name;
    throw UsageError(concat("model: the kind of ", name_of(part), " must be one of ", known,
                            "; got ", config.kind, "; a program registers kinds of its own"));
  }
  spec.settings = config.settings;
  for (const KindSetting& setting : kind->settings)
    spec.settings.emplace(setting.name, setting.value);
  return kind->make(spec);
}

}  // namespace smoe
