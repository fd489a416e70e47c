// Kinds of layers that tests register: an MLP with two routers, and an attention with one.
#pragma once
#include "layers/attention.h"
#include "layers/layer_kinds.h"
#include "layers/moe.h"
#include "layers/parallel_linear.h"

namespace smoe::test {

/// The model's experts, and beside them low-rank adapters with a router of their own.
class AdapterModule : public LayerModule {
 public:
  explicit AdapterModule(const LayerSpec& spec)
      : base_(spec.name + ".block_sparse_moe", spec.model),
        router_(spec.name + ".adapters.gate", {spec.model.d_model, kAdapters, 1},
                spec.model.router),
        down_(spec.name + ".adapters.down", kAdapters, spec.model.d_model,
              spec.setting<std::int64_t>("rank"), 0.1, {}),
        up_(spec.name + ".adapters.up", kAdapters, spec.setting<std::int64_t>("rank"),
            spec.model.d_model, spec.setting<double>("init_std"), {.input = RowLayout::grouped}) {
    own(base_);
    own(router_);
    own(down_);
    own(up_);
  }

  Output forward(const Variable& x, const LayerContext& context) override {
    const Output base = base_.forward(x, of_routers(context, 0, 1));
    const Routing routing = router_.forward(x, context, 1);
    const Variable delta = up_.forward(down_.forward(x, routing.plan), routing.plan, routing.gates);
    return {.y = add(base.y, delta), .routings = {base.routings[0], routing}};
  }

  std::vector<Router*> routers() override { return {&base_.router(), &router_}; }
  std::vector<PartParameters> parts() const override {
    std::vector<PartParameters> parts = base_.parts();
    parts.push_back({.part = ModelPart::router, .parameters = router_.parameters()});
    parts.push_back({.part = ModelPart::modules,
                     .parameters = {down_.parameters()[0], up_.parameters()[0]},
                     .top_k = 1,
                     .num_experts = kAdapters});
    return parts;
  }

  static constexpr std::int64_t kAdapters = 3;

 private:
  MoE base_;
  Router router_;
  ParallelLinear down_, up_;
};

/// Attention whose output one of two experts projects again.
class RoutedAttention : public LayerModule {
 public:
  explicit RoutedAttention(const LayerSpec& spec)
      : base_(spec.name + ".self_attn", spec.model, spec.rotary_table),
        router_(spec.name + ".self_attn.gate", {spec.model.d_model, 2, 1}, spec.model.router),
        output_(spec.name + ".self_attn.experts", 2, spec.model.d_model, spec.model.d_model, 0.1,
                {}) {
    own(base_);
    own(router_);
    own(output_);
  }

  Output forward(const Variable& x, const LayerContext& context) override {
    const Routing routing = router_.forward(x, context);
    return {.y = output_.forward(base_.forward(x, context).y, routing.plan, routing.gates),
            .routings = {routing}};
  }
  std::vector<Router*> routers() override { return {&router_}; }

 private:
  Attention base_;
  Router router_;
  ParallelLinear output_;
};

/// Registers both, once per program: attention "test_routed", MLP "test_adapters".
inline void register_test_kinds() {
  static const bool is_done = [] {
    register_mlp<AdapterModule>("test_adapters", {{"rank", std::int64_t{4}, "of an adapter", 1},
                                                  {"init_std", 0.1, "of the second factor", 0}});
    register_attention<RoutedAttention>("test_routed");
    return true;
  }();
  static_cast<void>(is_done);
}

}  // namespace smoe::test
