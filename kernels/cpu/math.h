// Math functions of scalars and vectors (lanes.h). The f32 versions have no branches, calls or
// tables; they are within two units in the last place of the exact value unless stated otherwise.
// The f64 versions are the C++ library's. NaNs propagate.
#pragma once
#include <bit>
#include <cmath>

#include "kernels/cpu/lanes.h"

namespace smoe::kernels::cpu {

namespace detail {

// F is float or F32x8; U is the unsigned type of the same size.
template <class U, class F>
inline F exp_f32(F x) {
  x = x > 88.37f ? F{} + 88.37f : x;
  x = x < -87.33f ? F{} - 87.33f : x;
  // x = n ln 2 + r. Adding 1.5 * 2^23 rounds to an integer and leaves n in the low bits.
  constexpr float kMagic = 12582912.0f;
  const F shifted = x * 1.44269504f + kMagic;
  const F n = shifted - kMagic;
  const F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  // (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, interpolated at Chebyshev nodes.
  F p = r * 1.392618359e-3f + 8.363179053e-3f;
  p = p * r + 4.166655462e-2f;
  p = p * r + 1.666657698e-1f;
  p = p * r + 0.5f;
  const F power = p * (r * r) + r + 1.0f;
  return power * std::bit_cast<F>((std::bit_cast<U>(shifted) << 23) + 0x3f800000u);
}

}  // namespace detail

/// e^x, clamped to the range of f32: x < -87.3 and x > 88.3 give the values at these limits.
inline F32x8 exp(F32x8 x) {
  return detail::exp_f32<U32x8>(x);
}
/// The same for a scalar, in loops that the compiler vectorizes.
inline float exp(float x) {
  return detail::exp_f32<std::uint32_t>(x);
}
inline double exp(double x) {
  return std::exp(x);
}

/// The logistic function 1 / (1 + e^-x).
template <class T>
T sigmoid(T x) {
  return 1.0f / (1.0f + exp(-x));
}

/// The standard normal distribution at x.
template <class T>
struct Normal {
  T cdf;
  T density;
};

/// In f32 within a relative error of (6 + x^2 / 2) 2^-24: the exponent itself is rounded.
inline Normal<F32x8> standard_normal(F32x8 x) {
  const F32x8 z = x < 0.0f ? -x : x;
  const F32x8 power = exp(-0.5f * z * z);
  // P(Z > z) = e^(-z^2/2) t q(t), t = 1 / (1 + 0.27 z): q interpolated at Chebyshev nodes over
  // z <= 13.5, where the tail underflows f32; relative error 3e-8.
  const F32x8 t = 1.0f / (1.0f + 0.27f * z);
  F32x8 q = t * 2.898864139e-2f - 1.266612452e-1f;
  q = q * t + 1.702335344e-1f;
  q = q * t - 6.981608431e-2f;
  q = q * t + 1.083032537e-1f;
  q = q * t + 7.182439651e-2f;
  q = q * t + 1.018724766e-1f;
  q = q * t + 1.075338469e-1f;
  q = q * t + 1.077211909e-1f;
  const F32x8 tail = power * t * q;
  return {x < 0.0f ? tail : 1.0f - tail, 0.398942280f * power};
}
inline Normal<double> standard_normal(double x) {
  return {0.5 * std::erfc(-x * 0.70710678118654752), 0.39894228040143268 * std::exp(-0.5 * x * x)};
}

}  // namespace smoe::kernels::cpu
