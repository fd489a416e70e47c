// Module: a part of the model that owns parameters and other modules. It lists its parameters in
// the order in which the forward pass uses them, which determines their order in the
// ParameterStore.
#pragma once
#include <vector>

#include "autograd/parameter.h"

namespace smoe {

class Module {
 public:
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// All parameters, including those of owned modules, in order of use.
  const std::vector<Parameter*>& parameters() const { return parameters_; }

 protected:
  Module() = default;
  /// Call in the constructor, in order of use, for each owned parameter and module.
  void own(Parameter& parameter) { parameters_.push_back(&parameter); }
  void own(Module& module) {
    parameters_.insert(parameters_.end(), module.parameters_.begin(), module.parameters_.end());
  }

 private:
  std::vector<Parameter*> parameters_;
};

}  // namespace smoe
