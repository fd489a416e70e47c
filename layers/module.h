// Module: a part of the model that owns parameters and other modules. It lists its parameters in
// the order in which a forward pass uses them, which decides their place in the ParameterStore.
#pragma once
#include <vector>

#include "autograd/parameter.h"

namespace smoe {

class Module {
 public:
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// All parameters, those of modules it owns included, in order of use.
  const std::vector<Parameter*>& parameters() const { return parameters_; }

 protected:
  Module() = default;
  /// To be called in the constructor, in order of use, for each parameter and each module owned.
  void own(Parameter& parameter) { parameters_.push_back(&parameter); }
  void own(Module& module) {
    parameters_.insert(parameters_.end(), module.parameters_.begin(), module.parameters_.end());
  }

 private:
  std::vector<Parameter*> parameters_;
};

}  // namespace smoe
