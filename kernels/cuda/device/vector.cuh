// Vector loads and stores of up to 16 bytes per access. Storage is f32 or bf16; registers are f32.
#pragma once
#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "core/base/matrix.h"

namespace smoe::kernels::cuda {

/// Row i of a matrix.
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

/// The access type for N elements of T: at most 16 bytes.
template <class T, int N>
using access_t = typename Bytes<(N * int{sizeof(T)} < 16 ? N * int{sizeof(T)} : 16)>::type;

}  // namespace detail

/// Reads x from the N elements at p, which is aligned to min(16, N sizeof(T)) bytes.
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

/// Writes x to the N elements at p, each rounded once.
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

}  // namespace smoe::kernels::cuda
