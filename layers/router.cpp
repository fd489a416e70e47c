#include "layers/router.h"

#include "core/random.h"
#include "core/state.h"
#include "layers/init.h"

namespace smoe {

Router::Router(const std::string& name, const RouterShape& shape, const RouterConfig& config)
    : name_(name),
      shape_(shape),
      config_(config),
      logits_(name + ".weight", shape.d_model, shape.num_experts, projection_std(shape.d_model),
              {.full_precision = true}) {
  own(logits_);
  if (config.selection_bias_rate > 0)
    selection_bias_ = Tensor::zeros({shape.num_experts}, DType::f32, Category::parameters);
}

Routing Router::forward(const Variable& x, const LayerContext& context, std::size_t index) {
  Variable input = x;
  if (context.is_training && config_.jitter > 0)
    input = jitter(x, config_.jitter, context.seed, hash_name(name_),
                   static_cast<std::uint64_t>(context.step) << 24 | context.micro_batch);
  const Variable logits = logits_.forward(input);  // [T, E]
  if (!context.plans.empty()) return route(logits, config_.score, context.plans[index]);
  return route(logits, config_.score, TopK{shape_.top_k, selection_bias_});
}

void Router::visit_state(StateVisitor& visitor) {
  if (selection_bias_.defined()) visitor.tensor(name_ + ".selection_bias", selection_bias_);
}

}  // namespace smoe
