// What the digest of digest.h sums, for host and device code.
#pragma once
#include <cstdint>

#include "core/base/host_device.h"

namespace smoe::kernels {

SMOE_HOST_DEVICE inline std::uint64_t digest_mix(std::uint64_t index, std::uint32_t word) {
  std::uint64_t z = (index << 32 | word) + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace smoe::kernels
