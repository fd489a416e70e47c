// Expert activation functions and their backward on one row, for kernels that run over whole arrays
// and for epilogues of GEMM tiles.
#pragma once
#include "kernels/activation.h"
#include "kernels/cpu/math.h"

namespace smoe::kernels::cpu {

template <class T>
struct ValueAndDerivative {
  T value;
  T derivative;
};

struct Silu {
  template <class T>
  static T value(T x) {
    return x * sigmoid(x);
  }
  template <class T>
  static ValueAndDerivative<T> value_and_derivative(T x) {
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
  static ValueAndDerivative<T> value_and_derivative(T x) {
    const Normal<T> normal = standard_normal(x);
    return {x * normal.cdf, normal.cdf + x * normal.density};
  }
};

struct SquaredRelu {
  template <class T>
  static T value(T x) {
    return x > 0.0f ? x * x : 0.0f * x;  // propagates NaN
  }
  template <class T>
  static ValueAndDerivative<T> value_and_derivative(T x) {
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

/// Calls f with the type of the activation: Gated<Silu>{}, ...
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

/// A row of n pre-activations: its GLU half and its up half. Plain kinds only use `glu`.
template <class T>
struct HalfRows {
  T* glu;
  T* up;
};

/// a[i] = gate * act(h)[i], with the router's gate of the row.
template <class Act, class T>
void activate_row(const HalfRows<const T>& h, accumulation_t<T> gate, T* a, std::int64_t n) {
  for_lanes<T>(n, [=](std::int64_t i, const auto& lanes) {
    auto alpha = Act::Function::value(lanes.load(h.glu + i));
    if constexpr (Act::kIsGated) alpha *= lanes.load(h.up + i);
    lanes.store(a + i, gate * alpha);
  });
}

/// dh from da. `dh` may be `h`.
template <class Act, class T>
void activate_row_backward(const HalfRows<const T>& h, const T* da, const HalfRows<T>& dh,
                           std::int64_t n) {
  for_lanes<T>(n, [=](std::int64_t i, const auto& lanes) {
    const auto f = Act::Function::value_and_derivative(lanes.load(h.glu + i));
    auto dglu = lanes.load(da + i);
    if constexpr (Act::kIsGated) {
      const auto up = lanes.load(h.up + i);
      lanes.store(dh.up + i, dglu * f.value);
      dglu *= up;
    }
    lanes.store(dh.glu + i, dglu * f.derivative);
  });
}

/// Backward of a = gate * act(h) with everything that an expert's backward needs: overwrites h by
/// dh, recomputes a, and returns dgate = <da, act(h)>.
template <class Act, class T>
accumulation_t<T> activate_row_backward_gated(const HalfRows<T>& h, const accumulation_t<T>* da,
                                              accumulation_t<T> gate, T* a, std::int64_t n) {
  lanes_t<T> dgate{};
  for_lanes<T>(n, [=, &dgate](std::int64_t i, const auto& lanes) {
    const auto f = Act::Function::value_and_derivative(lanes.load(h.glu + i));
    const auto dalpha = lanes.load(da + i);
    auto alpha = f.value;
    auto dglu = gate * dalpha;
    if constexpr (Act::kIsGated) {
      const auto up = lanes.load(h.up + i);
      lanes.store(h.up + i, dglu * f.value);
      alpha *= up;
      dglu *= up;
    }
    lanes.store(h.glu + i, dglu * f.derivative);
    lanes.store(a + i, gate * alpha);
    dgate += dalpha * alpha;
  });
  return sum_lanes(dgate);
}

}  // namespace smoe::kernels::cpu
