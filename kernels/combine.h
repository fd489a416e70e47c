// Combine: the gated sum of a token's expert outputs, and the gradient of the gates.
#pragma once
#include "kernels/grouped_gemm.h"

namespace smoe::kernels {

/// out[t] = sum_j gates[t, j] y[t, j], accumulated in slot order in the accumulation dtype and
/// rounded once; without gates, the plain sum.
struct CombineArgs {
  RoutingView routing;
  RoutedRows y;                 ///< [N, D]
  const void* gates = nullptr;  ///< [T, K] in y's accumulation dtype, or null
  Matrix out;                   ///< [T, D], y's dtype
};
void combine(const Launch& launch, const CombineArgs& args);

/// dgates[t, j] = <y[t, j], dout[t]>, in the accumulation dtype.
struct CombineGatesBackwardArgs {
  RoutingView routing;
  RoutedRows y;      ///< [N, D]
  ConstMatrix dout;  ///< [T, D], y's dtype
  void* dgates;      ///< [T, K] in y's accumulation dtype
};
void combine_gates_backward(const Launch& launch, const CombineGatesBackwardArgs& args);

}  // namespace smoe::kernels
