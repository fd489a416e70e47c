// One row of an expert non-linearity and of its backward, for the kernels that run over whole
// arrays and those that work on a tile just computed.
#pragma once
#include "kernels/activation.h"
#include "kernels/cpu/math.h"

namespace smoe::kernels::cpu {

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
    return {value, s + value * (1.0f - s)};
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
    return x > 0.0f ? x * x : 0.0f * x;  // a NaN stays one
  }
  template <class T>
  static ValueAndSlope<T> with_slope(T x) {
    return {value(x), x > 0.0f ? 2.0f * x : 0.0f * x};
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
  for_lanes<T>(n, [=](std::int64_t i, const auto& lanes) {
    auto alpha = Act::Function::value(lanes.load(h.gate + i));
    if constexpr (Act::kIsGated) alpha *= lanes.load(h.up + i);
    lanes.store(a + i, scale * alpha);
  });
}

/// dh from da. `dh` may be `h`.
template <class Act, class T>
void activate_row_backward(const HalfRows<const T>& h, const T* da, const HalfRows<T>& dh,
                           std::int64_t n) {
  for_lanes<T>(n, [=](std::int64_t i, const auto& lanes) {
    const auto f = Act::Function::with_slope(lanes.load(h.gate + i));
    auto dgate = lanes.load(da + i);
    if constexpr (Act::kIsGated) {
      const auto up = lanes.load(h.up + i);
      lanes.store(dh.up + i, dgate * f.value);
      dgate *= up;
    }
    lanes.store(dh.gate + i, dgate * f.slope);
  });
}

/// Backward of a = scale * act(h) with everything an expert's backward needs: dh over h, a, and
/// returned the derivative with respect to scale, <da, act(h)>.
template <class Act, class T>
accumulation_t<T> activate_row_backward_scaled(const HalfRows<T>& h, const accumulation_t<T>* da,
                                               accumulation_t<T> scale, T* a, std::int64_t n) {
  lanes_t<T> dscale{};
  for_lanes<T>(n, [=, &dscale](std::int64_t i, const auto& lanes) {
    const auto f = Act::Function::with_slope(lanes.load(h.gate + i));
    const auto dalpha = lanes.load(da + i);
    auto alpha = f.value;
    auto dgate = scale * dalpha;
    if constexpr (Act::kIsGated) {
      const auto up = lanes.load(h.up + i);
      lanes.store(h.up + i, dgate * f.value);
      alpha *= up;
      dgate *= up;
    }
    lanes.store(h.gate + i, dgate * f.slope);
    lanes.store(a + i, scale * alpha);
    dscale += dalpha * alpha;
  });
  return sum_lanes(dscale);
}

}  // namespace smoe::kernels::cpu
