// What the CUDA kernels share: dispatch over dtypes, 16-byte accesses as f32 numbers, reductions in
// a fixed order, launch checks. Numbers are stored as f32 or bf16 and computed with in f32; f64 is
// the CPU's alone.
#pragma once
#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "core/base/check.h"
#include "core/base/cuda.cuh"
#include "core/base/dtype.h"
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels::cuda {

constexpr int kWarp = 32;
/// Elements a thread reads or writes at a time where rows and pointers allow it: 16 bytes of bf16.
constexpr int kWidth = 8;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

inline cudaStream_t stream_of(const Launch& launch) {
  return static_cast<cudaStream_t>(launch.stream);
}

/// Of the launch's device.
inline int attribute(const Launch& launch, cudaDeviceAttr what) {
  int value = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&value, what, launch.device.index));
  return value;
}

/// Throws: SystemError when the launch before it was refused.
inline void check_launch(const char* kernel) {
  if (const cudaError_t code = cudaGetLastError(); code != cudaSuccess)
    throw_cuda_error(kernel, code, __FILE__, __LINE__);
}

/// Calls f(float{}) or f(__nv_bfloat16{}) by how elements are stored, and returns what f returns.
/// Throws: UsageError for another dtype.
template <class F>
decltype(auto) dispatch_storage(const char* op, DType dtype, F&& f) {
  SMOE_CHECK(dtype == DType::f32 || dtype == DType::bf16, op,
             ": dtype must be f32 or bf16 on a GPU; got ", name_of(dtype));
  return dtype == DType::f32 ? f(float{}) : f(__nv_bfloat16{});
}

/// Calls f with kWidth as a constant where `fits`, else with 1.
template <class F>
void dispatch_width(bool fits, F&& f) {
  if (fits)
    f(std::integral_constant<int, kWidth>{});
  else
    f(std::integral_constant<int, 1>{});
}

/// Whether kWidth elements from here on can be read at once: an address of 16 bytes. Null fits.
inline bool is_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}
/// The same for every kWidth-th element of every row. A matrix without data fits.
inline bool fits_width(const ConstMatrix& m) {
  return is_aligned(m.data) && (!m.data || (m.cols % kWidth == 0 && m.stride % kWidth == 0));
}

/// Row i of a matrix, in device code.
template <class T>
__device__ const T* row_of(const ConstMatrix& m, std::int64_t i) {
  return static_cast<const T*>(m.data) + i * m.stride;
}
template <class T>
__device__ T* row_of(const Matrix& m, std::int64_t i) {
  return static_cast<T*>(m.data) + i * m.stride;
}

__device__ inline float to_f32(float x) {
  return x;
}
__device__ inline float to_f32(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
/// Rounds to nearest even.
template <class T>
__device__ T from_f32(float x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else
    return __float2bfloat16_rn(x);
}

namespace detail {

template <int kBytes>
struct Bytes;
template <>
struct Bytes<2> {
  using type = std::uint16_t;
};
template <>
struct Bytes<4> {
  using type = std::uint32_t;
};
template <>
struct Bytes<8> {
  using type = uint2;
};
template <>
struct Bytes<16> {
  using type = uint4;
};

/// What moves N elements of T, at most 16 bytes at a time.
template <class T, int N>
using access_t = typename Bytes<(N * int{sizeof(T)} < 16 ? N * int{sizeof(T)} : 16)>::type;

}  // namespace detail

/// x = the N elements at p, which is aligned to min(16, N sizeof(T)) bytes.
template <int N, class T>
__device__ void load(const T* p, float (&x)[N]) {
  using Access = detail::access_t<T, N>;
  constexpr int kAccesses = N * int{sizeof(T)} / int{sizeof(Access)};
  alignas(16) T stored[N];
#pragma unroll
  for (int i = 0; i < kAccesses; ++i)
    reinterpret_cast<Access*>(stored)[i] = reinterpret_cast<const Access*>(p)[i];
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = to_f32(stored[i]);
}

/// The N elements at p = x, each rounded once.
template <int N, class T>
__device__ void store(T* p, const float (&x)[N]) {
  using Access = detail::access_t<T, N>;
  constexpr int kAccesses = N * int{sizeof(T)} / int{sizeof(Access)};
  alignas(16) T stored[N];
#pragma unroll
  for (int i = 0; i < N; ++i) stored[i] = from_f32<T>(x[i]);
#pragma unroll
  for (int i = 0; i < kAccesses; ++i)
    reinterpret_cast<Access*>(p)[i] = reinterpret_cast<const Access*>(stored)[i];
}

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
/// A NaN stays where there is one.
struct Maximum {
  __device__ float operator()(float a, float b) const { return a > b || isnan(a) ? a : b; }
};

/// The reduction of a warp's 32 numbers, in a fixed order, on every lane.
template <class T, class Op>
__device__ T reduce_warp(T x, Op op) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    x = op(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

/// The reduction of a block's numbers, in a fixed order, on every thread. kThreads is the block's
/// size, a multiple of 32. `scratch` holds kThreads / 32 elements; it may be used again at once.
template <int kThreads, class T, class Op>
__device__ T reduce_block(T x, Op op, T* scratch) {
  constexpr int kWarps = kThreads / kWarp;
  x = reduce_warp(x, op);
  if constexpr (kWarps == 1) return x;
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = scratch[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) x = op(x, scratch[warp]);
  __syncthreads();
  return x;
}

}  // namespace smoe::kernels::cuda
