// Router: sends each token to K experts. Logits and gates are in full precision.
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

  /// x [T, D] -> plan, gates [T, K] and losses. While training, adds this batch's rows per expert
  /// to the step's load.
  Routing forward(const Variable& x, const ForwardContext& context);

  /// Rows each expert received in this step so far: i64 [E].
  const Tensor& load() const { return load_; }
  /// Ends a step: moves the selection bias towards balance (arXiv:2408.15664), if it is in use and
  /// the step was not skipped, and clears the load.
  void end_step(bool was_updated);
  /// The selection bias, if it is in use.
  void visit_state(StateVisitor& visitor);

 private:
  std::string name_;
  RouterConfig config_;
  std::int64_t num_experts_, top_k_;
  Linear logits_;
  Tensor selection_bias_;  // [E]; undefined unless config_.selection_bias_rate > 0
  Tensor load_;            // i64 [E]
};

}  // namespace smoe
