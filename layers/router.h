// Router: assigns each token to K experts. Logits and gates are in full precision.
#pragma once
#include "layers/forward_context.h"
#include "layers/linear.h"
#include "layers/model_config.h"

namespace smoe {

class StateVisitor;

class Router : public Module {
 public:
  /// Weight `name`.weight [E, D].
  Router(const std::string& name, const ModelConfig& config);

  /// x [T, D] -> plan, gates [T, K] and losses, for the experts of context.plan if it is given.
  Routing forward(const Variable& x, const LayerContext& context);

  /// f32 [E], added to the scores when experts are chosen; undefined if it is not in use.
  const Tensor& selection_bias() const { return selection_bias_; }
  /// Visits the selection bias, if it is in use.
  void visit_state(StateVisitor& visitor);

 private:
  std::string name_;
  RouterConfig config_;
  std::int64_t top_k_;
  Linear logits_;
  Tensor selection_bias_;
};

}  // namespace smoe
