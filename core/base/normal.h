// Normal random numbers that have the same bits on every machine and device: Box-Muller from
// operations that IEEE 754 rounds once, and no mathematical library.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "core/base/host_device.h"
#include "core/base/philox.h"

namespace smoe {

struct NormalPair {
  double first;
  double second;
};

namespace box_muller {

/// a * b, which no compiler may join with a sum to a fused multiply-add.
SMOE_HOST_DEVICE inline double times(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

/// coefficients[0] + coefficients[1] x + coefficients[2] x^2 + ...
template <int N>
SMOE_HOST_DEVICE inline double polynomial(const double (&coefficients)[N], double x) {
  double sum = coefficients[N - 1];
  for (int i = N - 2; i >= 0; --i) sum = times(sum, x) + coefficients[i];
  return sum;
}

/// Natural logarithm, to 2 units in the last place, of a normal number in (0, 1].
SMOE_HOST_DEVICE inline double log(double x) {
  // x = 2^exponent m with m in [sqrt(1/2), sqrt(2)), and log(m) = 2 atanh((m - 1) / (m + 1)).
  constexpr std::uint64_t kMantissa = (std::uint64_t{1} << 52) - 1,
                          kOne = std::uint64_t{1023} << 52;
  constexpr double kSqrt2 = 0x1.6a09e667f3bcdp+0;
  constexpr double kLog2High = 0x1.62e42fee00000p-1;  // its products with exponents are exact
  constexpr double kLog2Low = 0x1.a39ef35793c76p-33;
  const auto bits = std::bit_cast<std::uint64_t>(x);
  double m = std::bit_cast<double>((bits & kMantissa) | kOne);
  double exponent = static_cast<double>(static_cast<int>(bits >> 52) - 1023);
  if (m >= kSqrt2) {
    m = times(m, 0.5);
    exponent += 1;
  }
  const double s = (m - 1) / (m + 1), z = times(s, s);
  constexpr double kAtanh[] = {2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9,  2.0 / 11,
                               2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};
  const double rest = times(times(s, z), polynomial(kAtanh, z));
  return times(exponent, kLog2High) + (2 * s + (rest + times(exponent, kLog2Low)));
}

/// Cosine and sine of 2 pi u for u in [0, 1).
SMOE_HOST_DEVICE inline NormalPair cos_sin_of_turns(double u) {
  constexpr double kTwoPi = 0x1.921fb54442d18p+2;
  constexpr double kCos[] = {1.0,
                             -1.0 / 2,
                             1.0 / 24,
                             -1.0 / 720,
                             1.0 / 40320,
                             -1.0 / 3628800,
                             1.0 / 479001600,
                             -1.0 / 87178291200,
                             1.0 / 20922789888000};
  constexpr double kSin[] = {
      -1.0 / 6,        1.0 / 120,        -1.0 / 5040,          1.0 / 362880,
      -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000};
  const int quarter = static_cast<int>(times(u, 4) + 0.5);
  const double x = times(u - 0.25 * static_cast<double>(quarter), kTwoPi),
               z = times(x, x);  // |x| <= pi / 4
  const double cosine = polynomial(kCos, z), sine = x + times(times(x, z), polynomial(kSin, z));
  switch (quarter & 3) {
    case 0:
      return {cosine, sine};
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    default:
      return {sine, -cosine};
  }
}

}  // namespace box_muller

/// Two independent standard normals of a block of random words.
SMOE_HOST_DEVICE inline NormalPair normal_pair(const PhiloxWords& words) {
  const auto uniform = [](std::uint32_t high, std::uint32_t low) {
    return uniform_from(std::uint64_t{high} << 32 | low);
  };
  const double radius = std::sqrt(-2 * box_muller::log(1 - uniform(words[0], words[1])));
  const NormalPair direction = box_muller::cos_sin_of_turns(uniform(words[2], words[3]));
  return {box_muller::times(radius, direction.first), box_muller::times(radius, direction.second)};
}

}  // namespace smoe
