#include "core/tensor.h"

#include "core/device.h"
#include "core/gpu.h"

namespace smoe {

Tensor::Tensor(std::shared_ptr<Storage> storage, std::int64_t offset_bytes, const Shape& shape,
               DType dtype)
    : storage_(std::move(storage)), offset_bytes_(offset_bytes), shape_(shape), dtype_(dtype) {}

Tensor Tensor::empty(const Shape& shape, DType dtype, Category category) {
  auto storage =
      std::make_shared<Storage>(shape.numel() * size_of(dtype), category, current_stream());
  return Tensor(std::move(storage), 0, shape, dtype);
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Category category) {
  Tensor tensor = empty(shape, dtype, category);
  tensor.fill_zero();
  return tensor;
}

Tensor Tensor::empty_like(const Tensor& other, Category category) {
  return empty(other.shape(), other.dtype(), category);
}

void* Tensor::data() const {
  SMOE_CHECK(defined(), "tensor: an undefined tensor has no data");
  return static_cast<std::byte*>(storage_->data()) + offset_bytes_;
}

double Tensor::item() const {
  SMOE_CHECK(numel() == 1, "tensor: item() needs one element; got shape ", shape_);
  return dispatch_floating(dtype_, [&](auto type) {
    decltype(type) value;
    copy_to_host(&value);
    return static_cast<double>(value);
  });
}

Tensor Tensor::reshape(const Shape& shape) const {
  SMOE_CHECK(shape.numel() == numel(), "tensor: cannot reshape ", shape_, " to ", shape);
  return Tensor(storage_, offset_bytes_, shape, dtype_);
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  SMOE_CHECK(rank() > 0 && 0 <= begin && begin <= end && end <= dim(0), "tensor: rows [", begin,
             ", ", end, ") are out of range for ", shape_);
  return Tensor(storage_, offset_bytes_ + begin * shape_.row_numel() * size_of(dtype_),
                shape_.with_rows(end - begin), dtype_);
}

Tensor Tensor::view(std::int64_t offset, const Shape& shape) const {
  SMOE_CHECK(offset >= 0 && offset + shape.numel() <= numel(), "tensor: ", shape, " at element ",
             offset, " is out of range for ", shape_);
  return Tensor(storage_, offset_bytes_ + offset * size_of(dtype_), shape, dtype_);
}

void Tensor::fill_zero() const {
  if (bytes() == 0) return;
  if (device().type == DeviceType::cpu)
    std::memset(data(), 0, bytes());
  else if (device().type == DeviceType::cuda)
    gpu::memset_async(data(), 0, bytes(), stream().launch().stream);
}

Tensor Tensor::clone(Category category) const {
  Tensor copy = empty(shape_, dtype_, category);
  copy.copy_from(*this);
  return copy;
}

void Tensor::copy_from(const Tensor& source) const {
  SMOE_CHECK(shape_ == source.shape_ && dtype_ == source.dtype_, "tensor: cannot copy ",
             source.shape_, " ", name_of(source.dtype_), " to ", shape_, " ", name_of(dtype_));
  if (bytes() == 0 || device().is_dry()) return;
  if (device().type == DeviceType::cpu)
    source.copy_to_host(data());
  else if (source.device().type == DeviceType::cpu)
    copy_from_host(source.data());
  else
    gpu::copy_on_device(data(), source.data(), bytes(), stream().launch().stream);
}

void Tensor::check_dtype(DType wanted) const {
  SMOE_CHECK(wanted == dtype_, "tensor: dtype must be ", name_of(wanted), "; got ",
             name_of(dtype_));
}

// The stream for work on this tensor: the current one, or the tensor's own when the current stream
// is on another device.
const Stream& Tensor::stream() const {
  return current_stream().device() == device() ? current_stream() : storage_->stream();
}

void Tensor::copy_to_host(void* target) const {
  if (bytes() == 0) return;
  SMOE_CHECK(!device().is_dry(), "tensor: a dry run computes no values to read");
  if (device().type == DeviceType::cpu)
    std::memcpy(target, data(), bytes());
  else
    gpu::copy_to_host(target, data(), bytes(), device().index, stream().launch().stream);
}

void Tensor::copy_from_host(const void* source) const {
  if (bytes() == 0 || device().is_dry()) return;
  if (device().type == DeviceType::cpu)
    std::memcpy(data(), source, bytes());
  else
    gpu::copy_from_host(data(), source, bytes(), device().index, stream().launch().stream);
}

}  // namespace smoe
