// half: IEEE binary16, a storage type of weight files. No kernel computes with it.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

namespace smoe {

struct half {
  std::uint16_t bits = 0;

  /// Exact.
  operator float() const {
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    const int exponent = bits >> 10 & 0x1f;
    const int fraction = bits & 0x3ff;
    if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
    if (exponent < 31) return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return fraction == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  }
};
static_assert(sizeof(half) == 2);

}  // namespace smoe
