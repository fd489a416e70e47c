#include "layers/parallel_linear.h"

namespace smoe {

ParallelLinear::ParallelLinear(const std::string& name, std::int64_t num_experts,
                               std::int64_t num_inputs, std::int64_t num_outputs, double std,
                               Options options)
    : input_(options.input),
      output_(options.output),
      weight_(name + ".weight", {num_experts, num_outputs, num_inputs}, Init::normal(std),
              std::move(options.weight)) {
  own(weight_);
  if (!options.bias) return;
  bias_ = std::make_unique<Parameter>(name + ".bias", Shape{num_experts, num_outputs},
                                      Init::constant(0), Parameter::Options{.decays = false});
  own(*bias_);
}

Variable ParallelLinear::forward(const Variable& x, const RoutingPlan& plan,
                                 const Variable& gates) {
  return parallel_linear(x, weight_, plan, {input_, output_, bias_.get()}, gates);
}

}  // namespace smoe
