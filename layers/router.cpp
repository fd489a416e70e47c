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
              {.full_precision = true}),
      load_(Tensor::zeros({c.num_experts}, DType::i64, Category::workspace)) {
  own(logits_);
  if (c.router.selection_bias_rate > 0)
    selection_bias_ = Tensor::zeros({c.num_experts}, DType::f32, Category::parameters);
}

Routing Router::forward(const Variable& x, const ForwardContext& context, const Routing* earlier) {
  Variable input = x;
  if (context.is_training && config_.jitter > 0)
    input = jitter(x, config_.jitter, context.seed, hash_name(name_),
                   static_cast<std::uint64_t>(context.step) << 24 | context.micro_batch);
  const Variable logits = logits_.forward(input);  // [T, E]
  if (earlier) return route_again(logits, *earlier, config_.score);
  Routing routing = followed_.defined() ? route_to(logits, followed_, config_.score)
                                        : route(logits, top_k_, config_.score, selection_bias_);
  if (context.is_training) count(routing);
  return routing;
}

void Router::count(const Routing& routing) {
  if (!losses_.defined()) losses_ = Tensor::zeros({2}, routing.z_loss.dtype(), Category::workspace);
  add_expert_load(routing.plan, load_);
  accumulate(routing.balance_loss, losses_.view(0, {1}));
  accumulate(routing.z_loss, losses_.view(1, {1}));
}

void Router::balance() {
  if (selection_bias_.defined())
    update_selection_bias(selection_bias_, load_, config_.selection_bias_rate);
}

void Router::clear_load() {
  load_.fill_zero();
  if (losses_.defined()) losses_.fill_zero();
}

void Router::visit_state(StateVisitor& visitor) {
  if (selection_bias_.defined()) visitor.tensor(name_ + ".selection_bias", selection_bias_);
}

}  // namespace smoe
