// Expert activation functions and their derivatives, in double.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

inline double silu(double x) {
  return x / (1 + std::exp(-x));
}
inline double silu_derivative(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return s + x * s * (1 - s);
}
inline double gelu(double x) {
  return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
}
inline double gelu_derivative(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0)) +
         x * std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0));
}
inline double relu2(double x) {
  return x > 0 ? x * x : 0;
}
inline double relu2_derivative(double x) {
  return x > 0 ? 2 * x : 0;
}

/// A function, its derivative, and whether the result is multiplied by the second half of the row.
struct Act {
  double (*value)(double);
  double (*derivative)(double);
  bool gated;

  /// Of one row h of 2f (gated) or f numbers, element i.
  double at(const double* h, std::int64_t f, std::int64_t i) const {
    return value(h[i]) * (gated ? h[f + i] : 1);
  }
  /// Writes the gradient of element i of the row.
  void backward(const double* h, double da, std::int64_t f, std::int64_t i, double* dh) const {
    dh[i] = da * derivative(h[i]) * (gated ? h[f + i] : 1);
    if (gated) dh[f + i] = da * value(h[i]);
  }
  std::int64_t width(std::int64_t f) const { return gated ? 2 * f : f; }
};

}  // namespace reference
