// bf16: the upper 16 bits of an IEEE float, rounded to nearest even. A storage type:
// accumulators over bf16 values are float.
#pragma once
#include <cstdint>
#include <cstring>

namespace smoe {

struct bf16 {
  std::uint16_t bits = 0;

  bf16() = default;
  explicit bf16(float value) {
    std::uint32_t u;
    std::memcpy(&u, &value, sizeof u);
    const std::uint32_t rounded = u + 0x7fffu + ((u >> 16) & 1u);
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>((is_nan ? (u | 0x00400000u) : rounded) >> 16);
  }
  explicit bf16(double value) : bf16(static_cast<float>(value)) {}
  operator float() const {
    const std::uint32_t u = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &u, sizeof value);
    return value;
  }
};
static_assert(sizeof(bf16) == 2);

}  // namespace smoe
