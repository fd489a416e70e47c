// Tensors for tests: of random or given values in any dtype, and conversion back to double.
#pragma once
#include <string_view>
#include <vector>

#include "autograd/ops/run_kernel.h"
#include "autograd/ops/views.h"
#include "core/random.h"
#include "core/tensor.h"

namespace smoe::test {

/// The values of a floating-point tensor, converted to double.
inline std::vector<double> values_of(const Tensor& x) {
  return dispatch_floating(x.dtype(), [&](auto type) {
    const auto values = x.to_vector<decltype(type)>();
    return std::vector<double>(values.begin(), values.end());
  });
}

/// A tensor of the given values, each rounded to `dtype`.
inline Tensor tensor_of(const std::vector<double>& values, const Shape& shape, DType dtype,
                        Category category = Category::activations) {
  return dispatch_floating(dtype, [&](auto type) {
    using T = decltype(type);
    std::vector<T> rounded;
    for (const double value : values) rounded.push_back(T(value));
    return Tensor::from(rounded, shape, category);
  });
}

/// Standard normal values times `scale`, rounded to `dtype`; determined by name and shape.
inline Tensor random_normal(std::string_view name, const Shape& shape, DType dtype,
                            double scale = 1) {
  RandomStream stream(7, hash_name(name), shape.numel());
  std::vector<double> values(shape.numel());
  for (double& value : values) value = scale * stream.normal();
  return tensor_of(values, shape, dtype);
}

/// Fills new tensors with NaNs during its lifetime.
class PoisonGuard {
 public:
  PoisonGuard() { set_poison_new_memory(true); }
  ~PoisonGuard() { set_poison_new_memory(false); }
  PoisonGuard(const PoisonGuard&) = delete;
  PoisonGuard& operator=(const PoisonGuard&) = delete;
};

}  // namespace smoe::test
