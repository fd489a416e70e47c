// Router: assigns each token to K experts. Logits and gates are in full precision.
#pragma once
#include "layers/forward_context.h"
#include "layers/linear.h"
#include "layers/model_config.h"

namespace smoe {

class StateVisitor;

struct RouterShape {
  std::int64_t d_model, num_experts, top_k;
};

class Router : public Module {
 public:
  /// Weight `name`.weight [E, D].
  Router(const std::string& name, const RouterShape& shape, const RouterConfig& config);
  /// The router of the model's experts.
  Router(const std::string& name, const ModelConfig& config)
      : Router(name, {config.d_model, config.num_experts, config.top_k}, config.router) {}

  /// x [T, D] -> plan, gates [T, K] and losses, for the experts of context.plans if they are given;
  /// `index` is this router's place among those of its module.
  Routing forward(const Variable& x, const LayerContext& context, std::size_t index = 0);

  const std::string& name() const { return name_; }
  std::int64_t num_experts() const { return shape_.num_experts; }
  std::int64_t top_k() const { return shape_.top_k; }
  const RouterConfig& config() const { return config_; }
  /// Whether its weight is trained, and so its load balanced.
  bool trains() const { return parameters()[0]->trains(); }

  /// f32 [E], added to the scores when experts are chosen; undefined if it is not in use.
  const Tensor& selection_bias() const { return selection_bias_; }
  /// Visits the selection bias, if it is in use.
  void visit_state(StateVisitor& visitor);

 private:
  std::string name_;
  RouterShape shape_;
  RouterConfig config_;
  Linear logits_;
  Tensor selection_bias_;
};

}  // namespace smoe
