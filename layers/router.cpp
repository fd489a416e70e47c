#include "layers/router.h"

#include "core/random.h"
#include "core/state.h"
#include "layers/init.h"

namespace smoe {

Router::Router(const std::string& name, const ModelConfig& c)
    : name_(name),
      config_(c.router),
      top_k_(c.top_k),
      logits_(name + ".weight", c.d_model, c.num_experts, projection_std(c.d_model),
              {.full_precision = true}) {
  own(logits_);
  if (c.router.selection_bias_rate > 0)
    selection_bias_ = Tensor::zeros({c.num_experts}, DType::f32, Category::parameters);
}

Routing Router::forward(const Variable& x, const LayerContext& context) {
  Variable input = x;
  if (context.is_training && config_.jitter > 0)
    input = jitter(x, config_.jitter, context.seed, hash_name(name_),
                   static_cast<std::uint64_t>(context.step) << 24 | context.micro_batch);
  const Variable logits = logits_.forward(input);  // [T, E]
  if (context.plan) return route(logits, config_.score, *context.plan);
  return route(logits, config_.score, TopK{top_k_, selection_bias_});
}

void Router::visit_state(StateVisitor& visitor) {
  if (selection_bias_.defined()) visitor.tensor(name_ + ".selection_bias", selection_bias_);
}

}  // namespace smoe
