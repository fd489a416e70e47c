// Kinds of layers that tests register: an MLP with two routers, which is that of the examples, and
// an attention with one.
#pragma once
#include "examples/mixture_of_lora.h"
#include "layers/attention.h"
#include "layers/layer_kinds.h"
#include "layers/parallel_linear.h"

namespace smoe::test {

constexpr std::int64_t kNumAdapters = 3;

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
    register_mlp<examples::MixtureOfLora>(
        "test_adapters", {{"num_adapters", kNumAdapters, "of a layer", 1},
                          {"top_k", std::int64_t{1}, "of a token", 1},
                          {"rank", std::int64_t{4}, "of an adapter", 1},
                          {"alpha", 4.0, "an adapter is scaled by alpha / rank", 0}});
    register_attention<RoutedAttention>("test_routed");
    return true;
  }();
  static_cast<void>(is_done);
}

}  // namespace smoe::test
