// The expert activation functions and their derivatives at one element, shared by all kernels: a
// backward kernel that recomputes an activation gets the bits of the forward kernel.
// Multiplications that a compiler might fuse are rounded explicitly for that.
#pragma once
#include <type_traits>

#include "kernels/activation.h"

namespace smoe::kernels::cuda {

struct ValueAndDerivative {
  float value;
  float derivative;
};

/// 2^x and 1 / x in one instruction each. __expf and __fdividef take three more, for subnormals,
/// which these flush to zero.
__device__ inline float fast_exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ inline float fast_reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/// 1 / (1 + e^-x); for bf16 results with the fast exponential and reciprocal, within 2^-20.
template <class T>
__device__ inline float sigmoid(float x) {
  constexpr float kLog2E = 1.44269504f;
  if constexpr (sizeof(T) == 2) return fast_reciprocal(1.0f + fast_exp2(-kLog2E * x));
  return __fdiv_rn(1.0f, 1.0f + expf(-x));
}

struct Silu {
  template <class T>
  static __device__ float value(float x) {
    return __fmul_rn(x, sigmoid<T>(x));
  }
  template <class T>
  static __device__ ValueAndDerivative value_and_derivative(float x) {
    const float s = sigmoid<T>(x);
    const float value = __fmul_rn(x, s);
    return {value, s + value * (1.0f - s)};
  }
};

struct Gelu {
  struct Normal {
    float cdf;
    float density;  // times sqrt(2 pi)
  };
  // For bf16 results within 2^-20 of the smaller tail: e^(z^2) erfc(z) is t times a polynomial in
  // t = 1 / (1 + 0.35 z), fitted to the least relative error.
  template <class T>
  static __device__ Normal normal(float x) {
    if constexpr (sizeof(T) == 2) {
      const float t = __fdividef(1.0f, fmaf(0.247487373f, fabsf(x), 1.0f));
      float sum = fmaf(-0.042552741f, t, 0.100605137f);
      sum = fmaf(fmaf(sum, t, -0.007275510f), t, 0.081472282f);
      sum = fmaf(fmaf(sum, t, 0.077336046f), t, 0.092954675f);
      sum = fmaf(fmaf(sum, t, 0.098726554f), t, 0.098733144f);
      const float density = __expf(-0.5f * x * x);
      const float tail = __fmul_rn(__fmul_rn(sum, t), density);
      return {x < 0.0f ? tail : 1.0f - tail, density};
    } else {
      return {__fmul_rn(0.5f, erfcf(x * -0.707106781f)), expf(-0.5f * x * x)};
    }
  }
  template <class T>
  static __device__ float value(float x) {
    return __fmul_rn(x, normal<T>(x).cdf);
  }
  template <class T>
  static __device__ ValueAndDerivative value_and_derivative(float x) {
    const Normal p = normal<T>(x);
    return {__fmul_rn(x, p.cdf), p.cdf + x * 0.398942280f * p.density};
  }
};

struct SquaredRelu {
  template <class T>
  static __device__ float value(float x) {
    return x > 0.0f ? __fmul_rn(x, x) : 0.0f * x;  // a NaN stays one
  }
  template <class T>
  static __device__ ValueAndDerivative value_and_derivative(float x) {
    return {value<T>(x), x > 0.0f ? 2.0f * x : 0.0f * x};
  }
};

/// gate * act(glu, up), where `gate` is the router's and `up` is ignored by plain kinds. The caller
/// rounds.
template <class T, class Function, bool kIsGated>
__device__ inline float activate(float glu, float up, float gate) {
  float alpha = Function::template value<T>(glu);
  if constexpr (kIsGated) alpha = __fmul_rn(alpha, up);
  return __fmul_rn(gate, alpha);
}

/// All that an expert's backward needs at one element.
struct ActivationGradient {
  float a;      ///< gate * act(h), bit-identical to activate()
  float dglu;   ///< of the pre-activation, or of its GLU half
  float dup;    ///< of its up half
  float dgate;  ///< da * act(h): this element's term of the router gate's gradient
};

template <class T, class Function, bool kIsGated>
__device__ inline ActivationGradient activate_backward(float glu, float up, float gate, float da) {
  const ValueAndDerivative f = Function::template value_and_derivative<T>(glu);
  const float scaled = __fmul_rn(gate, da);
  ActivationGradient result;
  float alpha = f.value, dglu = scaled;
  if constexpr (kIsGated) {
    result.dup = __fmul_rn(scaled, f.value);
    alpha = __fmul_rn(alpha, up);
    dglu = __fmul_rn(dglu, up);
  } else {
    result.dup = 0;
  }
  result.a = __fmul_rn(gate, alpha);
  result.dglu = __fmul_rn(dglu, f.derivative);
  result.dgate = __fmul_rn(da, alpha);
  return result;
}

/// Calls f with the function of `kind` and a constant: whether it is gated.
template <class F>
void dispatch_kind(Activation kind, F&& f) {
  switch (kind) {
    case Activation::swiglu:
      return f(Silu{}, std::true_type{});
    case Activation::geglu:
      return f(Gelu{}, std::true_type{});
    case Activation::relu2:
      return f(SquaredRelu{}, std::false_type{});
    case Activation::gelu:
      return f(Gelu{}, std::false_type{});
  }
}

/// Calls f with the function of `kind`, which is gated if kIsGated.
template <bool kIsGated, class F>
__device__ inline void dispatch_function(Activation kind, F&& f) {
  if constexpr (kIsGated)
    kind == Activation::swiglu ? f(Silu{}) : f(Gelu{});
  else
    kind == Activation::relu2 ? f(SquaredRelu{}) : f(Gelu{});
}

}  // namespace smoe::kernels::cuda
