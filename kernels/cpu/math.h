// Functions of one number that compilers can turn into vector code: no branch, no call, no table.
// The f32 forms are within two units in the last place of the exact value unless said otherwise;
// the f64 forms are the C++ library's. NaNs stay NaNs.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace smoe::cpu {

/// e^x. Below -87.3 and above 88.3, where f32 ends, the value at that end.
inline float exp(float x) {
  x = std::max(std::min(x, 88.37f), -87.33f);
  // x = n ln 2 + r. Adding 1.5 * 2^23 rounds to an integer and leaves n in the low bits.
  constexpr float kMagic = 12582912.0f;
  const float shifted = x * 1.44269504f + kMagic;
  const float n = shifted - kMagic;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  // (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, interpolated at Chebyshev nodes.
  float p = 1.392618359e-3f;
  p = p * r + 8.363179053e-3f;
  p = p * r + 4.166655462e-2f;
  p = p * r + 1.666657698e-1f;
  p = p * r + 0.5f;
  const float power = p * (r * r) + r + 1.0f;
  const float scale =
      std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u);
  return power * scale;
}
inline double exp(double x) {
  return std::exp(x);
}

/// The logistic function 1 / (1 + e^-x).
template <class T>
T sigmoid(T x) {
  return T{1} / (T{1} + exp(-x));
}

/// The standard normal distribution at a point.
template <class T>
struct Normal {
  T cdf;
  T density;
};

/// In f32 within a relative (6 + x^2 / 2) 2^-24: the exponent itself is rounded.
inline Normal<float> standard_normal(float x) {
  const float z = std::abs(x);
  const float power = exp(-0.5f * z * z);
  // P(Z > z) = e^(-z^2/2) t q(t), t = 1 / (1 + 0.27 z): q interpolated at Chebyshev nodes over
  // z <= 13.5, where the tail leaves f32; relative error 3e-8.
  const float t = 1.0f / (1.0f + 0.27f * z);
  float q = 2.898864139e-2f;
  q = q * t - 1.266612452e-1f;
  q = q * t + 1.702335344e-1f;
  q = q * t - 6.981608431e-2f;
  q = q * t + 1.083032537e-1f;
  q = q * t + 7.182439651e-2f;
  q = q * t + 1.018724766e-1f;
  q = q * t + 1.075338469e-1f;
  q = q * t + 1.077211909e-1f;
  const float tail = power * t * q;
  return {x < 0 ? tail : 1.0f - tail, 0.398942280f * power};
}
inline Normal<double> standard_normal(double x) {
  return {0.5 * std::erfc(-x * 0.70710678118654752), 0.39894228040143268 * std::exp(-0.5 * x * x)};
}

}  // namespace smoe::cpu
