// Choices of a model's configuration that kernels implement.
#pragma once
#include <cstdint>

namespace smoe::kernels {

/// Gated: a = f(glu) * up, where [glu, up] = [h[:F], h[F:]] and f = SiLU (swiglu) or exact GELU
/// (geglu) (arXiv:2002.05202). Plain: max(h, 0)^2 (relu2, arXiv:2109.08668) or exact GELU (gelu).
enum class Activation : std::uint8_t { swiglu, geglu, relu2, gelu };

constexpr bool is_gated(Activation kind) {
  return kind == Activation::swiglu || kind == Activation::geglu;
}

/// How router logits [T, E] become gates [T, K].
enum class RouterScore : std::uint8_t {
  softmax_topk_renorm,  ///< softmax over E, top-k, divided by their sum (Mixtral)
  softmax_topk,         ///< softmax over E, top-k, as they are (Switch, OLMoE)
  topk_softmax,         ///< top-k of the logits, softmax over the K
  sigmoid,              ///< sigmoid, top-k of score + selection bias, gates = scores / their sum
};

}  // namespace smoe::kernels
