// The expert non-linearities and their slopes at one number, the same in every kernel: a backward
// kernel that computes an activation again gets the forward one's bits. The roundings that a
// compiler might merge are spelt out for that.
#pragma once
#include "kernels/activation.h"
#include "kernels/cuda/common.cuh"

namespace smoe::kernels::cuda {

struct ValueAndSlope {
  float value;
  float slope;
};

/// 1 / (1 + e^-x); for bf16 results with the fast exponential and reciprocal, within 2^-20.
template <class T>
__device__ inline float sigmoid(float x) {
  if constexpr (sizeof(T) == 2) return __fdividef(1.0f, 1.0f + __expf(-x));
  return __fdiv_rn(1.0f, 1.0f + expf(-x));
}

struct Silu {
  template <class T>
  static __device__ float value(float x) {
    return __fmul_rn(x, sigmoid<T>(x));
  }
  template <class T>
  static __device__ ValueAndSlope with_slope(float x) {
    const float s = sigmoid<T>(x);
    const float value = __fmul_rn(x, s);
    return {value, s + value * (1.0f - s)};
  }
};

struct Gelu {
  static __device__ float cdf(float x) { return __fmul_rn(0.5f, erfcf(x * -0.707106781f)); }
  template <class T>
  static __device__ float value(float x) {
    return __fmul_rn(x, cdf(x));
  }
  template <class T>
  static __device__ ValueAndSlope with_slope(float x) {
    const float p = cdf(x);
    return {__fmul_rn(x, p), p + x * 0.398942280f * expf(-0.5f * x * x)};
  }
};

struct SquaredRelu {
  template <class T>
  static __device__ float value(float x) {
    return x > 0.0f ? __fmul_rn(x, x) : 0.0f * x;  // a NaN stays one
  }
  template <class T>
  static __device__ ValueAndSlope with_slope(float x) {
    return {value<T>(x), x > 0.0f ? 2.0f * x : 0.0f * x};
  }
};

/// scale * act(gate, up), `up` ignored by plain kinds; rounded by the caller.
template <class T, class Function, bool kIsGated>
__device__ inline float activate(float gate, float up, float scale) {
  float alpha = Function::template value<T>(gate);
  if constexpr (kIsGated) alpha = __fmul_rn(alpha, up);
  return __fmul_rn(scale, alpha);
}

/// Everything an expert's backward needs at one element.
struct ActivationGradient {
  float a;       ///< scale * act(h): activate()'s number
  float dgate;   ///< of the pre-activation, or of its gate half
  float dup;     ///< of its up half
  float dscale;  ///< da * act(h)
};

template <class T, class Function, bool kIsGated>
__device__ inline ActivationGradient activate_backward(float gate, float up, float scale,
                                                       float da) {
  const ValueAndSlope f = Function::template with_slope<T>(gate);
  const float scaled = __fmul_rn(scale, da);
  ActivationGradient result;
  float alpha = f.value, dgate = scaled;
  if constexpr (kIsGated) {
    result.dup = __fmul_rn(scaled, f.value);
    alpha = __fmul_rn(alpha, up);
    dgate = __fmul_rn(dgate, up);
  } else {
    result.dup = 0;
  }
  result.a = __fmul_rn(scale, alpha);
  result.dgate = __fmul_rn(dgate, f.slope);
  result.dscale = __fmul_rn(da, alpha);
  return result;
}

/// Calls f with the function of `kind`, of which it is known whether it is gated.
template <bool kIsGated, class F>
__device__ inline void dispatch_function(Activation kind, F&& f) {
  if constexpr (kIsGated)
    kind == Activation::swiglu ? f(Silu{}) : f(Gelu{});
  else
    kind == Activation::relu2 ? f(SquaredRelu{}) : f(Gelu{});
}

}  // namespace smoe::kernels::cuda
