// The two fused products of an expert MLP: the up-projection with its non-linearity, and the
// down-projection's backward with that of the non-linearity. Between them and around them the layer
// uses grouped_gemm.h and combine.h. Roundings to the storage dtype happen where the arrays below
// are written and nowhere else, so that backward recomputes activations from h bit for bit.
#pragma once
#include "kernels/activation.h"
#include "kernels/grouped_gemm.h"

namespace smoe::kernels {

/// h[p] = W1[e(p)] x[t(p)]; a[p] = gate(p) * act(h[p]), from the h that was rounded. All rows of h
/// and a are grouped.
struct ExpertUpArgs {
  RoutingView routing;
  ConstMatrix x;      ///< [T, D]
  ExpertMatrices w1;  ///< [E, 2F, D] gated (gate rows first), [E, F, D] plain; x's dtype
  Activation kind;
  const void* gates;  ///< [T, K] in x's accumulation dtype
  Matrix h;           ///< [N, 2F] or [N, F], x's dtype; without data it is not kept
  Matrix a;           ///< [N, F], x's dtype
  void* workspace = nullptr;
};
void expert_up(const Launch& launch, const ExpertUpArgs& args);
std::int64_t expert_up_workspace_bytes(const Launch& launch, const ExpertUpArgs& args);

/// da[p] = W2[e(p)]^T dout[t(p)] without the gate; dgates = <da, act(h)>; a = gate * act(h); h is
/// overwritten by dh = gate * da * act'(h).
struct ExpertDownBackwardArgs {
  RoutingView routing;
  ConstMatrix dout;   ///< [T, D]
  ExpertMatrices w2;  ///< [E, D, F], dout's dtype
  Activation kind;
  const void* gates;  ///< [T, K] in dout's accumulation dtype
  Matrix h;           ///< [N, 2F] or [N, F]: h in, dh out
  Matrix a;           ///< [N, F]
  void* dgates;       ///< [T, K] in dout's accumulation dtype
  void* workspace = nullptr;
};
void expert_down_backward(const Launch& launch, const ExpertDownBackwardArgs& args);
std::int64_t expert_down_backward_workspace_bytes(const Launch& launch,
                                                  const ExpertDownBackwardArgs& args);

}  // namespace smoe::kernels
