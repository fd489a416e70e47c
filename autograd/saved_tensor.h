// SavedTensor: an op's input, saved for its backward.
#pragma once
#include "autograd/variable.h"

namespace smoe {

/// Keeps the data of a variable, or only its rematerialization if it has one, so that the data's
/// memory is free between forward and backward.
class SavedTensor {
 public:
  /// Keeps only shape and dtype unless backward `is_reader` of the data, as it is where a weight is
  /// trained.
  explicit SavedTensor(const Variable& x, bool is_reader = true)
      : shape_(x.shape()),
        dtype_(x.dtype()),
        rematerialization_(is_reader ? x.rematerialization() : nullptr),
        data_(is_reader && !rematerialization_ ? x.data() : Tensor()) {}

  /// Moves the tensor out, undefined if it is not kept; call once. Other ops that saved it may
  /// still refer to its storage.
  Tensor take() {
    if (!rematerialization_) return std::move(data_);
    const auto rematerialization = std::move(rematerialization_);
    return rematerialization->tensor();
  }

  /// Where the gradient of x is written: over x, as take() returned it, if that is the sole
  /// reference to it.
  Tensor gradient_memory(const Tensor& x) const {
    return x.defined() && x.is_sole_reference() ? x : Tensor::empty(shape_, dtype_);
  }

 private:
  Shape shape_;
  DType dtype_;
  std::shared_ptr<Rematerialization> rematerialization_;
  Tensor data_;
};

}  // namespace smoe
