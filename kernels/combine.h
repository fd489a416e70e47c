// Combine: a token's sum over the rows of its experts, and the gates' gradient.
#pragma once
#include "kernels/grouped_gemm.h"

namespace smoe::kernels {

/// out[t] = sum_j gates[t, j] y[t, j], in slot order, in the accumulation dtype, rounded once; a
/// plain sum without gates.
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
