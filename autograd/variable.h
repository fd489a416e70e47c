// Variable: a tensor and its place on the tape, if it has one.
#pragma once
#include <functional>
#include <memory>

#include "core/tensor.h"

namespace smoe {

/// How to compute a tensor again, to the same bits, from what is kept anyway; once for all that
/// saved it.
class Rematerialization {
 public:
  explicit Rematerialization(std::function<Tensor()> compute) : compute_(std::move(compute)) {}
  Tensor tensor() {
    if (!tensor_.defined()) tensor_ = compute_();
    return tensor_;
  }

 private:
  std::function<Tensor()> compute_;
  Tensor tensor_;
};

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

  /// Lets those that save this variable keep `compute` in place of its data. Nobody saves
  /// constants.
  void set_rematerialization(std::function<Tensor()> compute) {
    if (requires_grad())
      rematerialization_ = std::make_shared<Rematerialization>(std::move(compute));
  }
  /// Null where the data have to be kept.
  const std::shared_ptr<Rematerialization>& rematerialization() const { return rematerialization_; }

 private:
  friend class Tape;
  friend class WatchedGradients;
  Variable(Tensor data, std::int64_t slot, std::uint64_t graph)
      : data_(std::move(data)), slot_(slot), graph_(graph) {}

  Tensor data_;
  std::int64_t slot_ = -1;   // index of its gradient on the tape
  std::uint64_t graph_ = 0;  // which of the tapes' graphs the slot belongs to
  std::shared_ptr<Rematerialization> rematerialization_;
};

}  // namespace smoe
