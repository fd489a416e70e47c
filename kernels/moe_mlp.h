// The two fused GEMMs of an expert MLP: the up-projection with its activation function, and the
// backward of the down-projection with that of the activation function. A layer combines them with
// grouped_gemm.h and combine.h. Results are rounded to the storage dtype only where the arrays
// below are written, so that the backward recomputes bit-identical activations from h.
#pragma once
#include "kernels/activation.h"
#include "kernels/grouped_gemm.h"

namespace smoe::kernels {

/// h[p] = W1[e(p)] x[t(p)]; a[p] = gate(p) * act(h[p]), from the rounded h. h and a are grouped.
struct ExpertUpArgs {
  RoutingView routing;
  ConstMatrix x;      ///< [T, D]
  ExpertMatrices w1;  ///< [E, 2F, D] gated (GLU rows first), [E, F, D] plain; x's dtype
  Activation kind;
  const void* gates;  ///< [T, K] in x's accumulation dtype
  Matrix h;           ///< [N, 2F] or [N, F], x's dtype; not written if it has no data
  Matrix a;           ///< [N, F], x's dtype
  void* workspace = nullptr;
};
void expert_up(const Launch& launch, const ExpertUpArgs& args);
std::int64_t expert_up_workspace_bytes(const Launch& launch, const ExpertUpArgs& args);

/// da[p] = W2[e(p)]^T dout[t(p)], without the gate; dgates = <da, act(h)>; a = gate * act(h); h is
/// overwritten with dh = gate * da * act'(h).
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
