#include "layers/model_size.h"

namespace smoe {
namespace {

// Parameters of one expert in one layer.
std::int64_t expert_up_size(const ModelConfig& c) {
  return (is_gated(c.activation) ? 2 : 1) * c.d_model * c.d_expert;
}
std::int64_t expert_size(const ModelConfig& c) {
  return expert_up_size(c) + c.d_model * c.d_expert;
}

}  // namespace

const char* name_of(ModelPart part) {
  constexpr const char* kNames[] = {"embedding",      "attention", "router", "experts",
                                    "shared experts", "norms",     "head"};
  return kNames[static_cast<int>(part)];
}

std::vector<ParameterGroup> parameter_groups(const ModelConfig& c) {
  const std::int64_t attention = (2 * c.num_heads + 2 * c.num_kv_heads) * c.head_dim * c.d_model;
  const std::int64_t table = c.vocab_size * c.d_model;
  const auto same_size = [&](std::int64_t per_layer) {
    return ModelSize{c.num_layers * per_layer, c.num_layers * per_layer};
  };
  std::vector<ParameterGroup> groups{
      {ModelPart::embedding, {table, c.tie_embeddings ? table : 0}},
      {ModelPart::attention, same_size(attention)},
      {ModelPart::router, same_size(c.num_experts * c.d_model)},
      {ModelPart::experts,
       {c.num_layers * c.num_experts * expert_size(c), c.num_layers * c.top_k * expert_size(c)}}};
  if (c.num_shared_experts > 0)
    groups.push_back({ModelPart::shared_experts, same_size(c.num_shared_experts * expert_size(c))});
  const std::int64_t norms = (2 * c.num_layers + 1) * c.d_model;
  groups.push_back({ModelPart::norms, {norms, norms}});
  if (!c.tie_embeddings) groups.push_back({ModelPart::head, {table, table}});
  return groups;
}

ModelSize model_size(const ModelConfig& config) {
  ModelSize sum;
  for (const ParameterGroup& group : parameter_groups(config)) {
    sum.total += group.size.total;
    sum.active += group.size.active;
  }
  return sum;
}

TokenFlops flops_per_token(const ModelConfig& c, std::int64_t seq_len, Recompute recompute,
                           std::int64_t recompute_layers) {
  TokenFlops flops;
  for (const ParameterGroup& group : parameter_groups(c))
    if (group.part != ModelPart::norms)
      flops.weights += 2.0 * static_cast<double>(group.size.active);
  // Two dot products of head_dim elements, 2 FLOPs each, with half of the sequence.
  flops.attention = static_cast<double>(c.num_layers) *
                    static_cast<double>(c.num_heads * c.head_dim) * 2 * 2 *
                    static_cast<double>(seq_len) / 2;
  const double shared = static_cast<double>(c.num_shared_experts * expert_size(c));
  if (recompute == Recompute::experts)
    flops.recomputed = 2.0 * static_cast<double>(c.num_layers) *
                       (static_cast<double>(c.top_k * expert_up_size(c)) + shared);
  const double head = 2.0 * static_cast<double>(c.vocab_size * c.d_model);
  if (recompute == Recompute::block) flops.recomputed = flops.forward() - head;
  if (recompute_layers > 0)  // all layers cost the same
    flops.recomputed *= static_cast<double>(recompute_layers) / static_cast<double>(c.num_layers);
  return flops;
}

}  // namespace smoe
