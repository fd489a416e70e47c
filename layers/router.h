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
  /// to the step's load, and its losses to the step's sums. An `earlier` result for the same x is
  /// followed rather than decided and counted again.
  Routing forward(const Variable& x, const ForwardContext& context,
                  const Routing* earlier = nullptr);

  /// From now on sends tokens to these experts, i32 [T, K], whatever their logits are; undefined:
  /// to those it chooses.
  void follow(Tensor expert_ids) { followed_ = std::move(expert_ids); }

  /// Rows each expert received in this step so far: i64 [E].
  const Tensor& load() const { return load_; }
  /// Balance and z loss, each summed over this step's micro-batches: [2] in the accumulation dtype;
  /// undefined before the first forward pass of training.
  const Tensor& losses() const { return losses_; }
  /// Moves the selection bias, if it is in use, towards balance by the load (arXiv:2408.15664).
  void balance();
  /// Makes load and losses zero, for the next step.
  void clear_load();
  /// The selection bias, if it is in use.
  void visit_state(StateVisitor& visitor);

 private:
  void count(const Routing& routing);

  std::string name_;
  RouterConfig config_;
  std::int64_t top_k_;
  Linear logits_;
  Tensor selection_bias_;  // f32 [E]; undefined unless config_.selection_bias_rate > 0
  Tensor followed_;        // i32 [T, K]; undefined: free
  Tensor load_;            // i64 [E]
  Tensor losses_;          // [2]
};

}  // namespace smoe
