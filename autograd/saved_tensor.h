// SavedTensor: an op's input, saved for its backward.
#pragma once
#include "autograd/variable.h"

namespace smoe {

/// Keeps the data of a variable, or only its rematerialization if it has one, so that the data's
/// memory is free between forward and backward.
class SavedTensor {
 public:
  explicit SavedTensor(const Variable& x)
      : rematerialization_(x.rematerialization()),
        data_(rematerialization_ ? Tensor() : x.data()) {}

  /// Moves the tensor out; call once. Other ops that saved it may still refer to its storage.
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
