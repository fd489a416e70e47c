// Tensors for tests: of random or given values in any dtype, and conversion back to double.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <tuple>
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

/// `count` standard normal values times `scale`, rounded to T; determined by name and count.
/// Drawing them takes longer than most kernels, and a test compares several runs from the same
/// values: a thread keeps what it drew, up to 256 MiB of each type. Valid until the next call.
template <class T>
const std::vector<T>& normal_values(std::string_view name, std::int64_t count, double scale) {
  constexpr std::size_t kMostBytes = std::size_t{256} << 20;
  thread_local std::map<std::tuple<std::string, std::int64_t, double>, std::vector<T>> kept;
  thread_local std::size_t kept_bytes = 0;
  const std::tuple key{std::string(name), count, scale};
  if (const auto found = kept.find(key); found != kept.end()) return found->second;
  std::vector<T> values;
  values.reserve(count);
  RandomStream stream(7, hash_name(name), count);
  for (std::int64_t i = 0; i < count; ++i) values.push_back(T(scale * stream.normal()));
  const std::size_t bytes = values.size() * sizeof(T);
  if (kept_bytes + bytes > kMostBytes) {
    kept.clear();
    kept_bytes = 0;
  }
  kept_bytes += bytes;
  return kept[key] = std::move(values);
}

/// Standard normal values times `scale`, rounded to `dtype`; determined by name and shape.
inline Tensor random_normal(std::string_view name, const Shape& shape, DType dtype,
                            double scale = 1) {
  return dispatch_floating(dtype, [&](auto type) {
    return Tensor::from(normal_values<decltype(type)>(name, shape.numel(), scale), shape,
                        Category::activations);
  });
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
