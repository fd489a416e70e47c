// Warp and block reductions in a fixed order, so that results are deterministic.
#pragma once

namespace smoe::kernels::cuda {

constexpr int kWarp = 32;

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
/// Propagates NaN.
struct Maximum {
  __device__ float operator()(float a, float b) const { return a > b || isnan(a) ? a : b; }
};

/// Reduces x over the 32 lanes of a warp in a fixed order; every lane gets the result.
template <class T, class Op>
__device__ T reduce_warp(T x, Op op) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    x = op(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

/// Reduces x over a thread block in a fixed order; every thread gets the result. kThreads is the
/// block size, a multiple of 32. `scratch` holds kThreads / 32 elements in shared memory and may be
/// reused as soon as the call returns.
template <int kThreads, class T, class Op>
__device__ T reduce_block(T x, Op op, T* scratch) {
  constexpr int kWarps = kThreads / kWarp;
  x = reduce_warp(x, op);
  if constexpr (kWarps == 1) return x;
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  if constexpr (kWarps == kWarp) {
    x = reduce_warp(scratch[threadIdx.x % kWarp], op);
  } else {
    x = scratch[0];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) x = op(x, scratch[warp]);
  }
  __syncthreads();
  return x;
}

}  // namespace smoe::kernels::cuda
