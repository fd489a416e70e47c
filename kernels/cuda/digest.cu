// One pass over memory; each thread adds up words a grid apart, each block adds its sum once.
#include "kernels/digest.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/digest_mix.h"

namespace smoe::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 2048;

__global__ void __launch_bounds__(kThreads) digest_kernel(DigestArgs args) {
  __shared__ std::uint64_t scratch[kThreads / 32];
  const auto* words = static_cast<const std::uint32_t*>(args.x);
  const std::int64_t num_words = args.bytes / 4, stride = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  std::uint64_t sum = 0;
#pragma unroll 4
  for (std::int64_t i = first; i < num_words; i += stride) sum += digest_mix(i, words[i]);
  if (first == 0 && args.bytes % 4 != 0) {
    const auto* bytes = static_cast<const unsigned char*>(args.x);
    std::uint32_t word = 0;
    for (std::int64_t i = num_words * 4; i < args.bytes; ++i)
      word |= std::uint32_t{bytes[i]} << 8 * (i % 4);
    sum += digest_mix(num_words, word);
  }
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(~0u, sum, offset);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kThreads / 32; ++warp) sum += scratch[warp];
  atomicAdd(reinterpret_cast<unsigned long long*>(args.result),
            static_cast<unsigned long long>(sum));
}

}  // namespace

void digest(const Launch& launch, const DigestArgs& args) {
  if (args.bytes == 0) return;
  const std::int64_t blocks =
      std::clamp<std::int64_t>(args.bytes / 4 / kThreads / 4, 1, kMostBlocks);
  digest_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("digest");
}

}  // namespace smoe::kernels::cuda
