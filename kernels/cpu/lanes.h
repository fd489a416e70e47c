// SIMD vectors of eight f32 lanes in the compilers' vector extension, for loops that compilers do
// not vectorize. f32 and bf16 arrays are loaded and stored as f32 lanes, f64 arrays as scalars, so
// that one loop body serves all three.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/base/bf16.h"

namespace smoe::kernels::cpu {

using F32x8 = float __attribute__((vector_size(32)));
using U32x8 = std::uint32_t __attribute__((vector_size(32)));
using U16x8 = std::uint16_t __attribute__((vector_size(16)));

/// The type that a loop over elements of type T computes in, and the number of elements it holds.
template <class T>
using lanes_t = std::conditional_t<std::is_same_v<T, double>, double, F32x8>;
template <class T>
inline constexpr std::int64_t kLanes = std::is_same_v<T, double> ? 1 : 8;

inline F32x8 load_lanes(const float* p) {
  F32x8 x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline F32x8 load_lanes(const bf16* p) {
  U16x8 bits;
  std::memcpy(&bits, p, sizeof bits);
  return reinterpret_cast<F32x8>(__builtin_convertvector(bits, U32x8) << 16);
}
inline double load_lanes(const double* p) {
  return *p;
}

inline void store_lanes(float* p, F32x8 x) {
  std::memcpy(p, &x, sizeof x);
}
/// Rounds as bf16(float) does: to nearest even; NaNs become quiet NaNs.
inline void store_lanes(bf16* p, F32x8 x) {
  const auto u = reinterpret_cast<U32x8>(x);
  const U32x8 rounded = u + 0x7fffu + ((u >> 16) & 1u);
  const U32x8 chosen = (u & 0x7fffffffu) > 0x7f800000u ? (u | 0x00400000u) : rounded;
  const U16x8 bits = __builtin_convertvector(chosen >> 16, U16x8);
  std::memcpy(&p->bits, &bits, sizeof bits);
}
inline void store_lanes(double* p, double x) {
  *p = x;
}

/// The sum of all lanes, in a fixed order.
inline float sum_lanes(F32x8 x) {
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}
inline double sum_lanes(double x) {
  return x;
}

/// Memory access in a loop over lanes: of full vectors, or of the last `count` elements, where
/// masked lanes load zero and are not stored.
struct FullLanes {
  template <class T>
  auto load(const T* p) const {
    return load_lanes(p);
  }
  template <class T>
  void store(T* p, lanes_t<T> x) const {
    store_lanes(p, x);
  }
};
struct SomeLanes {
  std::int64_t count;
  template <class T>
  auto load(const T* p) const {
    T padded[kLanes<T>] = {};
    std::copy_n(p, count, padded);
    return load_lanes(padded);
  }
  template <class T>
  void store(T* p, lanes_t<T> x) const {
    T padded[kLanes<T>];
    store_lanes(padded, x);
    std::copy_n(padded, count, p);
  }
};

/// Calls body(i, lanes) for i = 0, kLanes<T>, ... below n.
template <class T, class F>
void for_lanes(std::int64_t n, F&& body) {
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) body(i, FullLanes{});
  if (i < n) body(i, SomeLanes{n - i});
}

}  // namespace smoe::kernels::cpu
