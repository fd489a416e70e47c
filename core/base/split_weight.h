// An f32 number in two halves of 16 bits: the nearest bf16 number, ties away from zero, and the
// signed remainder of the bit pattern. With this rounding the remainder is -2^15 to 2^15 - 1 for
// every f32, so the halves hold all 32 bits; with ties to even +2^15 would occur and not fit.
#pragma once
#include <cstdint>

namespace smoe {

struct SplitWeight {
  std::uint16_t weight;     ///< bits of a bf16 number
  std::uint16_t remainder;  ///< two's complement
};

/// The halves of the f32 number with these bits. A NaN stays a NaN, of any payload.
constexpr SplitWeight split_weight(std::uint32_t bits) {
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  if (is_nan) return {static_cast<std::uint16_t>(bits >> 16 | 0x40u), 0};
  return {static_cast<std::uint16_t>((bits + 0x8000u) >> 16), static_cast<std::uint16_t>(bits)};
}

/// The bits of the f32 number with these halves.
constexpr std::uint32_t join_weight(std::uint16_t weight, std::uint16_t remainder) {
  return (std::uint32_t{weight} << 16) + static_cast<std::uint32_t>(static_cast<std::int32_t>(
                                             static_cast<std::int16_t>(remainder)));
}

}  // namespace smoe
