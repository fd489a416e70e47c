// SavedTensor: an op's input as its backward will want it.
#pragma once
#include "autograd/variable.h"

namespace smoe {

/// Keeps the data of a variable; or, of one that knows how to be computed again, that knowledge
/// alone, so that its memory is free between forward and backward.
class SavedTensor {
 public:
  explicit SavedTensor(const Variable& x)
      : rematerialization_(x.rematerialization()),
        data_(rematerialization_ ? Tensor() : x.data()) {}

  /// Hands the tensor over, to be called once. Whoever else saved it may still refer to it.
  Tensor take() {
    if (!rematerialization_) return std::move(data_);
    const auto rematerialization = std::move(rematerialization_);
    return rematerialization->tensor();
  }

 private:
  std::shared_ptr<Rematerialization> rematerialization_;
  Tensor data_;
};

}  // namespace smoe
