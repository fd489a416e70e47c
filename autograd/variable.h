// Variable: a tensor and its place on the tape, if it has one.
#pragma once
#include "core/tensor.h"

namespace smoe {

class Variable {
 public:
  Variable() = default;
  /// A constant: no gradient flows to it.
  Variable(Tensor data) : data_(std::move(data)) {}  // NOLINT: tensors are constants

  const Tensor& data() const { return data_; }
  const Shape& shape() const { return data_.shape(); }
  std::int64_t dim(int i) const { return data_.dim(i); }
  DType dtype() const { return data_.dtype(); }
  bool defined() const { return data_.defined(); }
  /// Whether a gradient will flow to this variable.
  bool requires_grad() const { return slot_ >= 0; }

 private:
  friend class Tape;
  friend class WatchedGradients;
  Variable(Tensor data, std::int64_t slot, std::uint64_t graph)
      : data_(std::move(data)), slot_(slot), graph_(graph) {}

  Tensor data_;
  std::int64_t slot_ = -1;   // index of its gradient on the tape
  std::uint64_t graph_ = 0;  // which of the tapes' graphs the slot belongs to
};

}  // namespace smoe
