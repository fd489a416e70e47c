// Digest of memory at memory speed, to compare replicas of large tensors where they are.
#pragma once
#include <cstdint>

#include "core/base/launch.h"

namespace smoe::kernels {

/// result[0] += the sum, modulo 2^64, over the 32-bit words of x of mix(index << 32 | word). A tail
/// of less than a word is padded with zeros. Sums of integers do not depend on their order, so the
/// digest is deterministic. mix is the finalizer of splitmix64, a bijection (Steele et al., Fast
/// splittable pseudorandom number generators, 2014): one changed word always changes the digest.
struct DigestArgs {
  const void* x;          ///< [bytes], at a multiple of 4
  std::int64_t bytes;     ///< less than 2^34
  std::uint64_t* result;  ///< [1]
};
void digest(const Launch& launch, const DigestArgs& args);

}  // namespace smoe::kernels
