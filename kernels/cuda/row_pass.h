// One pass over routed rows, expert by expert: writes them in grouped order, sums them per expert,
// and multiplies them by other rows.
#pragma once
#include "kernels/grouped_gemm.h"

namespace smoe::kernels::cuda {

/// Each result is left out if its pointer is null.
struct RowPass {
  RoutingView routing;
  RoutedRows rows;                ///< [., D], f32 or bf16
  const float* gates = nullptr;   ///< [T, K], or all 1
  Matrix gated = {};              ///< [N, D], grouped: each row times its gate, rounded once
  void* sums = nullptr;           ///< [E, D]: of an expert's gated rows + beta sums
  DType sums_dtype = DType::f32;  ///< or bf16, rounded once
  double beta = 0;
  ConstMatrix others = {};    ///< [N, D], grouped; may be `gated`
  float* products = nullptr;  ///< [T, K]: <row, other row>, without the gate
  void* workspace = nullptr;  ///< of row_pass_workspace_bytes
};
/// The blocks of all experts advance through the tokens together, so that the K rows of a token are
/// read at about the same time. Deterministic.
void pass_over_rows(const Launch& launch, const char* op, const RowPass& pass);
std::int64_t row_pass_workspace_bytes(const RowPass& pass);

}  // namespace smoe::kernels::cuda
