#include "core/distributed/copy/device_sum.h"

#include <cuda_bf16.h>

namespace smoe {
namespace {

constexpr int kThreads = 512;
// Enough to add up at about half of an H200's memory bandwidth.
constexpr int kMaxBlocks = 32;

__device__ float widened(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
template <class T>
__device__ T widened(T value) {
  return value;
}
template <class T, class Acc>
__device__ T narrowed(Acc value) {
  if constexpr (sizeof(T) == 2)
    return __float2bfloat16_rn(value);
  else
    return value;
}

/// 16 bytes, or one element where addresses are not aligned to them.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];
};

template <class T, class Acc, int kWidth>
__global__ void __launch_bounds__(kThreads)
    ordered_sum_kernel(SumTerms terms, int num_terms, std::int64_t numel, T* result) {
  using P = Pack<T, kWidth>;
  constexpr int kUnroll = 4;  // the result may be a term, so no load passes a store by itself
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads, num_packs = numel / kWidth;
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (std::int64_t i = first; i < num_packs; i += kUnroll * step) {
    Acc sums[kUnroll][kWidth];
    for (int t = 0; t < num_terms; ++t) {
      P packs[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
        if (i + u * step < num_packs) packs[u] = static_cast<const P*>(terms.of[t])[i + u * step];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          const Acc value = widened(packs[u].values[j]);
          sums[u][j] = t == 0 ? value : sums[u][j] + value;
        }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      P sum;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) sum.values[j] = narrowed<T>(sums[u][j]);
      if (i + u * step < num_packs) reinterpret_cast<P*>(result)[i + u * step] = sum;
    }
  }
  for (std::int64_t i = num_packs * kWidth + first; i < numel; i += step) {
    Acc sum = widened(static_cast<const T*>(terms.of[0])[i]);
    for (int t = 1; t < num_terms; ++t) sum += widened(static_cast<const T*>(terms.of[t])[i]);
    result[i] = narrowed<T>(sum);
  }
}

template <class T, class Acc, int kWidth>
void start(const SumTerms& terms, int num_terms, std::int64_t numel, T* result,
           cudaStream_t stream) {
  const std::int64_t blocks = (numel / kWidth + kThreads) / kThreads;
  ordered_sum_kernel<T, Acc, kWidth>
      <<<static_cast<int>(blocks < kMaxBlocks ? blocks : kMaxBlocks), kThreads, 0, stream>>>(
          terms, num_terms, numel, result);
  CUDA_CHECK(cudaGetLastError());
}

template <class T, class Acc>
void sum(const SumTerms& terms, int num_terms, std::int64_t numel, void* result,
         cudaStream_t stream) {
  std::uintptr_t addresses = reinterpret_cast<std::uintptr_t>(result);
  for (int t = 0; t < num_terms; ++t) addresses |= reinterpret_cast<std::uintptr_t>(terms.of[t]);
  if (addresses % 16 == 0)
    start<T, Acc, 16 / sizeof(T)>(terms, num_terms, numel, static_cast<T*>(result), stream);
  else
    start<T, Acc, 1>(terms, num_terms, numel, static_cast<T*>(result), stream);
}

}  // namespace

void device_ordered_sum(const SumTerms& terms, int num_terms, std::int64_t numel, DType dtype,
                        void* result, cudaStream_t stream) {
  switch (dtype) {
    case DType::f32:
      return sum<float, float>(terms, num_terms, numel, result, stream);
    case DType::f64:
      return sum<double, double>(terms, num_terms, numel, result, stream);
    case DType::bf16:
      return sum<__nv_bfloat16, float>(terms, num_terms, numel, result, stream);
    default:
      return sum<long long, long long>(terms, num_terms, numel, result, stream);
  }
}

}  // namespace smoe
