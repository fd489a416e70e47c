// Tensor: a typed, shaped, row-major view of shared storage, without gradients; for those see
// autograd/variable.h. A Tensor is a handle, like shared_ptr: copies share storage, and constness
// is that of the handle, so const methods may write elements.
#pragma once
#include <cstring>
#include <memory>
#include <vector>

#include "core/base/dtype.h"
#include "core/memory.h"
#include "core/shape.h"

namespace smoe {

class Tensor {
 public:
  /// An undefined tensor; defined() is false.
  Tensor() = default;

  /// New, uninitialised memory on the current stream's device.
  static Tensor empty(const Shape& shape, DType dtype, Category category = Category::activations);
  /// As empty, with every element zero.
  static Tensor zeros(const Shape& shape, DType dtype, Category category = Category::activations);
  /// New memory with the shape and dtype of `other`.
  static Tensor empty_like(const Tensor& other, Category category = Category::activations);
  /// A tensor with the values of a host vector, copied to the current stream's device in stream
  /// order.
  /// Throws: UsageError unless the sizes agree.
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape,
                     Category category = Category::activations);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  std::int64_t dim(int i) const { return shape_[i]; }
  std::int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  std::int64_t bytes() const { return numel() * size_of(dtype_); }
  Device device() const { return storage_ ? storage_->device() : Device{}; }
  Category category() const { return storage_ ? storage_->category() : Category::activations; }

  /// First element, on the tensor's device.
  void* data() const;
  /// First element as T. Throws: UsageError if T is not this tensor's dtype.
  template <class T>
  T* data_as() const;
  /// The element of a tensor with numel() == 1; waits for the device. Floating-point dtypes only.
  double item() const;

  /// Same elements in another shape; shares storage. Throws: UsageError if the counts differ.
  Tensor reshape(const Shape& shape) const;
  /// Rows [begin, end) of dimension 0; shares storage. Throws: UsageError out of range.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// `shape.numel()` elements starting at element `offset`; shares storage.
  Tensor view(std::int64_t offset, const Shape& shape) const;
  /// Sets every element to zero.
  void fill_zero() const;
  /// A copy in new memory, on the current stream's device.
  Tensor clone(Category category) const;
  /// Copies the elements of `source`, which has the same shape and dtype, to this tensor, across
  /// devices if needed. Waits only when this tensor is on the host. Throws: UsageError for another
  /// shape or dtype.
  void copy_from(const Tensor& source) const;
  /// The elements on the host; waits for the device. Throws: UsageError if T is not the dtype.
  template <class T>
  std::vector<T> to_vector() const;

  bool shares_storage(const Tensor& other) const { return storage_ && storage_ == other.storage_; }
  /// True when no other Tensor refers to this storage, so that overwriting it affects no other.
  bool is_sole_reference() const { return storage_.use_count() == 1; }

 private:
  Tensor(std::shared_ptr<Storage> storage, std::int64_t offset_bytes, const Shape& shape,
         DType dtype);
  void check_dtype(DType wanted) const;
  void copy_to_host(void* target) const;
  void copy_from_host(const void* source) const;
  const Stream& stream() const;

  std::shared_ptr<Storage> storage_;
  std::int64_t offset_bytes_ = 0;
  Shape shape_;
  DType dtype_ = DType::f32;
};

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape, Category category) {
  SMOE_CHECK(static_cast<std::int64_t>(values.size()) == shape.numel(), "tensor: shape ", shape,
             " must have ", shape.numel(), " values; got ", values.size());
  Tensor tensor = empty(shape, dtype_of<T>, category);
  tensor.copy_from_host(values.data());
  return tensor;
}

template <class T>
T* Tensor::data_as() const {
  check_dtype(dtype_of<T>);
  return static_cast<T*>(data());
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  check_dtype(dtype_of<T>);
  std::vector<T> values(numel());
  copy_to_host(values.data());
  return values;
}

}  // namespace smoe
