// Expert non-linearities: a = act(h), and their backward.
#pragma once
#include "core/base/launch.h"
#include "core/base/matrix.h"

namespace smoe::kernels {

/// Gated: a = f(h[:F]) * h[F:], f = SiLU (swiglu) or exact GELU (geglu) (arXiv:2002.05202).
/// Plain: max(h, 0)^2 (relu2, arXiv:2109.08668) or exact GELU (gelu).
enum class Activation : std::uint8_t { swiglu, geglu, relu2, gelu };

constexpr bool is_gated(Activation kind) {
  return kind == Activation::swiglu || kind == Activation::geglu;
}

}  // namespace smoe::kernels
