// ExpertInputs: sizes and inputs of a benchmark of one SMoE layer.
#pragma once
#include <optional>
#include <string>

#include "autograd/routing_plan.h"
#include "core/tensor.h"
#include "kernels/routing_view.h"

namespace smoe {

/// Sizes of one layer: T tokens of width D go to K of E experts of width F each.
struct ExpertShape {
  std::int64_t num_tokens, d_model, d_expert, num_experts, top_k;
  DType dtype;

  std::int64_t num_rows() const { return num_tokens * top_k; }
  double forward_flops() const;
};

/// How one ParallelLinear of D inputs and F outputs reads and writes its rows, instead of a whole
/// layer. It has a bias.
struct LinearMode {
  kernels::RowLayout input, output;
  bool is_per_token = false;  ///< x [T, D], scattered
  bool has_gates = false;     ///< combined by gates -> [T, F]

  /// "scattered -> grouped", "tokens -> grouped", "grouped -> gates"
  std::string text() const;
};

/// What all variants compute with. Random normal values, in the shape's dtype.
struct ExpertInputs {
  ExpertShape shape;
  RoutingPlan plan;
  Tensor x, dout;                    ///< [T, D]
  Tensor gates;                      ///< [T, K], accumulation dtype
  Tensor w1, w2;                     ///< [E, 2F, D], [E, D, F]
  Tensor dense_w1, dense_w2;         ///< [2KF, D], [D, KF]; of the dense variant
  std::optional<LinearMode> mode{};  ///< then x is [N, D] or [T, D], dout [N, F] or [T, F],
                                     ///< w1 [E, F, D], and w2 and the dense weights are undefined
  Tensor bias{};                     ///< [E, F], with a mode

  /// `imbalance`: largest over mean load; 1: each expert gets the same number of rows.
  explicit ExpertInputs(const ExpertShape& shape, double imbalance = 1);
  /// Of one ParallelLinear.
  ExpertInputs(const ExpertShape& shape, const LinearMode& mode);
};

}  // namespace smoe
