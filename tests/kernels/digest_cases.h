// A kernel case of kernels/digest.h, for the CPU and the GPU.
#pragma once
#include "core/device.h"
#include "kernels/digest.h"
#include "tests/support/tensors.h"

namespace smoe::test {

/// The digest of `bytes` bytes of fixed contents, of which byte `changed` differs, if it is >= 0.
inline std::int64_t digest_case(std::int64_t bytes, std::int64_t changed = -1) {
  std::vector<std::uint8_t> values(bytes);
  for (std::int64_t i = 0; i < bytes; ++i) values[i] = static_cast<std::uint8_t>(i * 37 + i / 256);
  if (changed >= 0) values[changed] ^= 4;
  const Tensor x = Tensor::from(values, {bytes});
  const Tensor result = Tensor::zeros({1}, DType::i64);
  kernels::digest(
      launch(),
      {.x = x.data(), .bytes = bytes, .result = static_cast<std::uint64_t*>(result.data())});
  return result.to_vector<std::int64_t>()[0];
}

inline constexpr std::int64_t kDigestSizes[] = {0, 1, 3, 4, 5, 1023, 4096, 1'000'003};

}  // namespace smoe::test
