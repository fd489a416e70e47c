// Linear: a projection without bias.
#pragma once
#include "autograd/ops.h"
#include "layers/module.h"

namespace smoe {

class Linear : public Module {
 public:
  /// Weight [num_outputs, num_inputs], drawn from a normal distribution with standard deviation
  /// `std`. `options.parts` names its parts if several projections are fused into one.
  Linear(const std::string& name, std::int64_t num_inputs, std::int64_t num_outputs, double std,
         Parameter::Options options = {})
      : weight_(name, {num_outputs, num_inputs}, Init::normal(std), std::move(options)) {
    own(weight_);
  }

  /// [T, num_inputs] -> [T, num_outputs].
  Variable forward(const Variable& x) { return linear(x, weight_); }

  Parameter& weight() { return weight_; }

 private:
  Parameter weight_;
};

}  // namespace smoe
