// One row of an expert non-linearity and of its backward, for the kernels that run over whole
// arrays and those that work on a tile just computed.
#pragma once
#include "kernels/activation.h"
#include "kernels/cpu/math.h"

namespace smoe::cpu {

template <class T>
struct ValueAndSlope {
  T value;
  T slope;
};

struct Silu {
  template <class T>
  static T value(T x) {
    return x * sigmoid(x);
  }
  template <class T>
  static ValueAndSlope<T> with_slope(T x) {
    const T s = sigmoid(x);
    const T value = x * s;
    return {value, s + value * (1 - s)};
  }
};

struct Gelu {
  template <class T>
  static T value(T x) {
    return x * standard_normal(x).cdf;
  }
  template <class T>
  static ValueAndSlope<T> with_slope(T x) {
    const Normal<T> normal = standard_normal(x);
    return {x * normal.cdf, normal.cdf + x * normal.density};
  }
};

struct SquaredRelu {
  template <class T>
  static T value(T x) {
    return x > 0 ? x * x : T{0} * x;  // a NaN stays one
  }
  template <class T>
  static ValueAndSlope<T> with_slope(T x) {
    return {value(x), x > 0 ? 2 * x : T{0} * x};
  }
};

template <class F>
struct Gated {
  static constexpr bool kIsGated = true;
  using Function = F;
};
template <class F>
struct Plain {
  static constexpr bool kIsGated = false;
  using Function = F;
};

/// Calls f with the type of the non-linearity: Gated<Silu>{}, ...
template <class F>
void dispatch_activation(kernels::Activation kind, F&& f) {
  switch (kind) {
    case kernels::Activation::swiglu:
      return f(Gated<Silu>{});
    case kernels::Activation::geglu:
      return f(Gated<Gelu>{});
    case kernels::Activation::relu2:
      return f(Plain<SquaredRelu>{});
    case kernels::Activation::gelu:
      return f(Plain<Gelu>{});
  }
}

/// A row of n pre-activations: the gate half and the up half, or for plain kinds the first alone.
template <class T>
struct HalfRows {
  T* gate;
  T* up;
};

/// a[i] = scale * act(h)[i].
template <class Act, class T>
void activate_row(const HalfRows<const T>& h, accumulation_t<T> scale, T* a, std::int64_t n) {
  using Acc = accumulation_t<T>;
  using F = typename Act::Function;
  const T* gate = h.gate;
  const T* up = h.up;
  if constexpr (Act::kIsGated) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) a[i] = T(scale * (F::value(Acc(gate[i])) * Acc(up[i])));
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) a[i] = T(scale * F::value(Acc(gate[i])));
  }
}

/// dh from scale * da. `dh` may be `h`.
template <class Act, class T, class D>
void activate_row_backward(const HalfRows<const T>& h, const D* da, const HalfRows<T>& dh,
                           std::int64_t n) {
  using Acc = accumulation_t<T>;
  using F = typename Act::Function;
  const T* gate = h.gate;
  const T* up = h.up;
  T* dgate = dh.gate;
  T* dup = dh.up;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const auto f = F::with_slope(Acc(gate[i]));
    const Acc g = Acc(da[i]);
    if constexpr (Act::kIsGated) {
      const Acc v = Acc(up[i]);
      dgate[i] = T(g * v * f.slope);
      dup[i] = T(g * f.value);
    } else {
      dgate[i] = T(g * f.slope);
    }
  }
}

/// Backward of a = scale * act(h) with everything an expert's backward needs: dh over h, a, and
/// returned the derivative with respect to scale, <da, act(h)>.
template <class Act, class T>
accumulation_t<T> activate_row_backward_scaled(const HalfRows<T>& h, const accumulation_t<T>* da,
                                               accumulation_t<T> scale, T* a, std::int64_t n) {
  using Acc = accumulation_t<T>;
  using F = typename Act::Function;
  T* gate = h.gate;
  T* up = h.up;
  Acc dscale = 0;
#pragma omp simd reduction(+ : dscale)
  for (std::int64_t i = 0; i < n; ++i) {
    const auto f = F::with_slope(Acc(gate[i]));
    Acc alpha = f.value;
    const Acc g = scale * da[i];
    if constexpr (Act::kIsGated) {
      const Acc v = Acc(up[i]);
      alpha *= v;
      gate[i] = T(g * v * f.slope);
      up[i] = T(g * f.value);
    } else {
      gate[i] = T(g * f.slope);
    }
    a[i] = T(scale * alpha);
    dscale += da[i] * alpha;
  }
  return dscale;
}

}  // namespace smoe::cpu
