// Combine: the gated sum of a token's expert outputs, and its backward.
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

/// Backward of combine and of its rows' bias in one pass: dgates as above;
/// dy[t, j] = gates[t, j] dout[t], rounded once; dbias[e] = sum of e's dy + bias_beta dbias[e].
struct CombineBackwardArgs {
  RoutingView routing;
  ConstMatrix y;          ///< [N, D], grouped
  ConstMatrix dout;       ///< [T, D], y's dtype
  const void* gates;      ///< [T, K] in y's accumulation dtype
  void* dgates;           ///< [T, K] in y's accumulation dtype, or null
  Matrix dy;              ///< [N, D], grouped, y's dtype; may be y
  DType dbias_dtype;      ///< y's accumulation dtype, or bf16
  void* dbias = nullptr;  ///< [E, D], rounded once, or null
  double bias_beta = 0;   ///< with 0 the previous value is not read
  void* workspace = nullptr;
};
void combine_backward(const Launch& launch, const CombineBackwardArgs& args);
std::int64_t combine_backward_workspace_bytes(const Launch& launch,
                                              const CombineBackwardArgs& args);

}  // namespace smoe::kernels
