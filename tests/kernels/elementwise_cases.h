// Cases of kernels/elementwise.h on the current stream.
#pragma once
#include "kernels/elementwise.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// The operations on the elements [skip, n) of two tensors of n elements: with skip = 1, pointers
/// are not aligned to 16 bytes. Elements before `skip` keep the values of x.
struct ElementwiseCase {
  ElementwiseCase(std::int64_t n, DType dtype, std::int64_t skip = 0)
      : n(n), skip(skip), x(random_normal("x", {n}, dtype)), y(random_normal("y", {n}, dtype)) {}

  Tensor add() const {
    const Tensor sum = x.clone(Category::activations);
    kernels::add(launch(), {part(x), part(y), part(sum), x.dtype(), count()});
    return sum;
  }
  /// Writes over y.
  Tensor add_in_place() const {
    kernels::add(launch(), {part(x), part(y), part(y), x.dtype(), count()});
    return y;
  }
  /// With beta, of y in `to`.
  Tensor scale(DType to, double factor, double beta = 0) const {
    const Tensor scaled = random_normal(beta == 0 ? "x" : "y", {n}, to);
    kernels::scale(launch(), {part(x), x.dtype(), part(scaled), to, count(), factor, beta});
    return scaled;
  }
  Tensor fill(double value) const {
    const Tensor filled = x.clone(Category::activations);
    kernels::fill(launch(), {part(filled), x.dtype(), count(), value});
    return filled;
  }
  /// Of the random stream (5, 6, 7), from an even number of normals on.
  Tensor fill_normal(double std, std::int64_t first) const {
    const Tensor filled = x.clone(Category::activations);
    kernels::fill_normal(launch(), {part(filled), x.dtype(), count(), std, 5, 6, 7, first});
    return filled;
  }
  /// Of the random stream (5, 6, 7).
  Tensor jitter(double epsilon) const {
    const Tensor jittered = x.clone(Category::activations);
    kernels::jitter(launch(), {part(x), part(jittered), x.dtype(), count(), epsilon, 5, 6, 7});
    return jittered;
  }
  /// Writes over x.
  Tensor jitter_in_place(double epsilon) const {
    kernels::jitter(launch(), {part(x), part(x), x.dtype(), count(), epsilon, 5, 6, 7});
    return x;
  }

  std::int64_t count() const { return n - skip; }
  std::byte* part(const Tensor& tensor) const {
    return static_cast<std::byte*>(tensor.rows(skip, n).data());
  }

  std::int64_t n, skip;
  Tensor x, y;
};

/// n scalars at addresses apart, and weights.
struct ScalarCase {
  ScalarCase(std::int64_t n, DType dtype) : x(random_normal("scalars", {n, 3}, dtype)) {
    for (std::int64_t i = 0; i < n; ++i) {
      addresses.push_back(x.view(3 * i + 1, {1}).data());
      weights.push_back(1.0 / static_cast<double>(2 + i));
    }
  }

  Tensor weighted_sum() const {
    const Tensor sum = Tensor::empty({1}, x.dtype());
    kernels::weighted_sum(launch(), {addresses, weights, x.dtype(), sum.data()});
    return sum;
  }
  Tensor gather() const {
    const Tensor values = Tensor::empty({x.dim(0)}, DType::f64);
    kernels::gather_scalars(launch(), {addresses, weights, x.dtype(), values.data_as<double>()});
    return values;
  }

  Tensor x;
  std::vector<const void*> addresses;
  std::vector<double> weights;
};

}  // namespace smoe::test
