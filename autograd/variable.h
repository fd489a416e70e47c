// Variable: a tensor and its place on the tape, if it has one.
#pragma once
#include <functional>
#include <memory>

#include "core/tensor.h"

namespace smoe {

/// Recomputes a tensor, bit-identically, from data that is kept anyway; once for all ops that saved
/// it.
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

class RoutedSum;
struct UnsummedGradient;

class Variable {
 public:
  /// The gradient slot of a variable. Only Tape assigns and reads it.
  struct Place {
    std::int64_t slot = -1;   ///< index of the gradient on the tape; -1: no gradient
    std::uint64_t graph = 0;  ///< the tape's graph that the slot belongs to
  };

  Variable() = default;
  /// A constant: no gradient flows to it.
  Variable(Tensor data) : data_(std::move(data)) {}  // NOLINT: tensors are constants
  Variable(Tensor data, const Place& place) : data_(std::move(data)), place_(place) {}

  const Tensor& data() const {
    if (routed_sum_) compute_routed_sum();
    return data_;
  }
  const Shape& shape() const { return data_.shape(); }
  std::int64_t dim(int i) const { return data_.dim(i); }
  DType dtype() const { return data_.dtype(); }
  bool defined() const { return data_.defined(); }
  /// Whether a gradient will flow to this variable.
  bool requires_grad() const { return place_.slot >= 0; }
  const Place& place() const { return place_; }

  /// Delays the computation of the data, the memory of which is the sum's, until data() is called.
  void set_routed_sum(std::shared_ptr<RoutedSum> sum) { routed_sum_ = std::move(sum); }
  /// Null unless the data is such a sum.
  const std::shared_ptr<RoutedSum>& routed_sum() const { return routed_sum_; }

  /// Lets ops that save this variable keep `compute` instead of its data. No effect on constants,
  /// which are never saved.
  void set_rematerialization(std::function<Tensor()> compute) {
    if (requires_grad())
      rematerialization_ = std::make_shared<Rematerialization>(std::move(compute));
  }
  /// Null if the data must be kept.
  const std::shared_ptr<Rematerialization>& rematerialization() const { return rematerialization_; }

  /// Lets the backward of ops that use this variable leave its gradient in `parts`, which the op
  /// that computed it adds up. No effect on constants.
  void set_unsummed_gradient(std::shared_ptr<UnsummedGradient> parts) {
    if (requires_grad()) unsummed_gradient_ = std::move(parts);
  }
  /// Null if only tensors can be given.
  const std::shared_ptr<UnsummedGradient>& unsummed_gradient() const { return unsummed_gradient_; }

 private:
  void compute_routed_sum() const;

  Tensor data_;
  Place place_;
  std::shared_ptr<RoutedSum> routed_sum_;
  std::shared_ptr<Rematerialization> rematerialization_;
  std::shared_ptr<UnsummedGradient> unsummed_gradient_;
};

}  // namespace smoe
