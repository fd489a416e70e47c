#include "layers/model_size.h"

#include <array>

#include "layers/transformer.h"

namespace smoe {
namespace {

constexpr int kNumParts = static_cast<int>(ModelPart::head) + 1;

// The model without memory: all layers, if which parameters are trained depends on their names, or
// else one for all.
ModelConfig declared(ModelConfig config) {
  if (config.train_only.empty()) config.num_layers = 1;
  return config;
}

/// Calls f(parameter, its part, times it is in the model) for all parameters of the declared model.
template <class F>
void for_each_parameter(const Transformer& model, std::int64_t num_layers, F&& f) {
  const auto visit = [&](const std::vector<PartParameters>& parts, std::int64_t times) {
    for (const PartParameters& part : parts)
      for (const Parameter* parameter : part.parameters) f(*parameter, part, times);
  };
  visit(model.parts(), 1);
  const std::int64_t times = num_layers / model.config().num_layers;
  for (const auto& layer : model.layers()) visit(layer->parts(), times);
}

// Parameters that each token is multiplied with.
std::int64_t active_numel(const Parameter& parameter, const PartParameters& part, bool is_tied) {
  if (part.part == ModelPart::embedding && !is_tied) return 0;
  return parameter.numel() / part.num_experts * part.top_k;
}

}  // namespace

const char* name_of(ModelPart part) {
  constexpr const char* kNames[] = {"embedding",      "attention", "router", "experts",
                                    "shared experts", "modules",   "norms",  "head"};
  return kNames[static_cast<int>(part)];
}

std::vector<ParameterGroup> parameter_groups(const ModelConfig& config) {
  const Transformer model(declared(config));
  std::array<ModelSize, kNumParts> sizes{};
  for_each_parameter(model, config.num_layers,
                     [&](const Parameter& parameter, const PartParameters& part, std::int64_t n) {
                       ModelSize& size = sizes[static_cast<int>(part.part)];
                       size.total += n * parameter.numel();
                       size.active += n * active_numel(parameter, part, config.tie_embeddings);
                       if (parameter.trains()) size.trained += n * parameter.numel();
                     });
  std::vector<ParameterGroup> groups;
  for (int i = 0; i < kNumParts; ++i)
    if (sizes[i].total > 0) groups.push_back({static_cast<ModelPart>(i), sizes[i]});
  return groups;
}

ModelSize model_size(const ModelConfig& config) {
  ModelSize sum;
  for (const ParameterGroup& group : parameter_groups(config)) {
    sum.total += group.size.total;
    sum.active += group.size.active;
    sum.trained += group.size.trained;
  }
  return sum;
}

TokenFlops flops_per_token(const ModelConfig& config, std::int64_t seq_len, Recompute recompute,
                           std::int64_t recompute_layers) {
  const Transformer model(declared(config));
  TokenFlops flops;
  double head = 0;
  for_each_parameter(model, config.num_layers,
                     [&](const Parameter& parameter, const PartParameters& part, std::int64_t n) {
                       if (part.part == ModelPart::norms) return;
                       const double flop = 2.0 * static_cast<double>(n) *
                                           static_cast<double>(active_numel(parameter, part,
                                                                            config.tie_embeddings));
                       flops.weights += flop;
                       if (!parameter.trains()) flops.frozen += flop;
                       if (part.part == ModelPart::head || part.part == ModelPart::embedding)
                         head += flop;
                     });
  double recomputed_experts = 0;
  const auto num_layers = static_cast<double>(config.num_layers);
  const auto times = num_layers / static_cast<double>(model.config().num_layers);
  for (const auto& layer : model.layers()) {
    flops.attention += times * (layer->attention().attention_flops(seq_len) +
                                layer->mlp().attention_flops(seq_len));
    recomputed_experts +=
        times * (layer->attention().recomputed_flops() + layer->mlp().recomputed_flops());
  }
  if (recompute == Recompute::experts) flops.recomputed = recomputed_experts;
  if (recompute == Recompute::block) flops.recomputed = flops.forward() - head;
  if (recompute_layers > 0)  // all layers cost the same
    flops.recomputed *= static_cast<double>(recompute_layers) / num_layers;
  return flops;
}

}  // namespace smoe
