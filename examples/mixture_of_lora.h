// MixtureOfLora: the experts of a base, which are not trained, and beside them a router of its own
// that sends each token to K of E low-rank adapters (arXiv:2106.09685), each a pair of
// ParallelLinears (arXiv:2403.08245):
//
//   y[t] = experts(x[t]) + sum_j gates[t, j] (alpha / rank) B[e] A[e] x[t],  e = expert_ids[t, j]
#pragma once
#include "layers/init.h"
#include "layers/layer_kinds.h"
#include "layers/moe.h"
#include "layers/parallel_linear.h"

namespace smoe::examples {

class MixtureOfLora : public LayerModule {
 public:
  explicit MixtureOfLora(const LayerSpec& spec)
      : base_(spec.name + ".block_sparse_moe", spec.model),  // named as in the base run
        shape_{spec.model.d_model, spec.setting<std::int64_t>("num_adapters"),
               spec.setting<std::int64_t>("top_k")},
        rank_(spec.setting<std::int64_t>("rank")),
        scale_(spec.setting<double>("alpha") / static_cast<double>(rank_)),
        router_(spec.name + ".lora.gate", shape_, spec.model.router),
        a_(spec.name + ".lora.a", shape_.num_experts, shape_.d_model, rank_,
           projection_std(shape_.d_model), {}),
        b_(spec.name + ".lora.b", shape_.num_experts, rank_, shape_.d_model,
           0,  // no change at first
           {.input = RowLayout::grouped}) {
    SMOE_CHECK(shape_.top_k <= shape_.num_experts, "mixture_of_lora: top_k must be at most ",
               "num_adapters=", shape_.num_experts, "; got ", shape_.top_k);
    own(base_);
    own(router_);
    own(a_);
    own(b_);
  }

  // x [T, D] -> [T, D].
  Output forward(const Variable& x, const LayerContext& context) override {
    const Output base = base_.forward(x, of_routers(context, 0, 1));
    const Routing routing = router_.forward(x, context, 1);
    const Variable low = a_.forward(x, routing.plan);  // [N, rank], grouped by adapter
    const Variable delta = b_.forward(low, routing.plan, routing.gates);  // [T, D]
    return {.y = add(base.y, scale(delta, scale_)), .routings = {base.routings[0], routing}};
  }

  std::vector<Router*> routers() override { return {&base_.router(), &router_}; }

  // For the tables of `plan`; without it all parameters would count as active.
  std::vector<PartParameters> parts() const override {
    std::vector<PartParameters> parts = base_.parts();
    parts.push_back({.part = ModelPart::router, .parameters = router_.parameters()});
    parts.push_back({.part = ModelPart::modules,
                     .parameters = {a_.parameters()[0], b_.parameters()[0]},
                     .top_k = shape_.top_k,
                     .num_experts = shape_.num_experts});
    return parts;
  }
  double recomputed_flops() const override { return base_.recomputed_flops(); }

 private:
  MoE base_;
  RouterShape shape_;
  std::int64_t rank_;
  double scale_;
  Router router_;
  ParallelLinear a_;  // [E, rank, D]
  ParallelLinear b_;  // [E, D, rank]
};

}  // namespace smoe::examples
