// ParallelLinear: one projection per expert, applied to routed rows (arXiv:2403.08245). A building
// block of expert modules; see autograd/ops.h for the layouts of input and output.
#pragma once
#include "autograd/ops.h"
#include "layers/module.h"

namespace smoe {

class ParallelLinear : public Module {
 public:
  struct Options {
    RowLayout input = RowLayout::scattered;
    RowLayout output = RowLayout::grouped;
    bool bias = false;
    Parameter::Options weight = {};
  };

  /// Weight `name`.weight [num_experts, num_outputs, num_inputs], drawn from a normal distribution
  /// with standard deviation `std`; bias `name`.bias [num_experts, num_outputs], initially zero.
  ParallelLinear(const std::string& name, std::int64_t num_experts, std::int64_t num_inputs,
                 std::int64_t num_outputs, double std, Options options);

  /// x -> [N, num_outputs]; with gates [T, K], their weighted sum over each token's rows
  /// [T, num_outputs].
  Variable forward(const Variable& x, const RoutingPlan& plan, const Variable& gates = {});

  Parameter& weight() { return weight_; }

 private:
  RowLayout input_, output_;
  Parameter weight_;
  std::unique_ptr<Parameter> bias_;
};

}  // namespace smoe
