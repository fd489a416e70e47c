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

/// A mixture of attention instead of a layer: each token has num_heads query heads, of which each
/// of its experts owns 1 / K; F is the width of one expert's heads, and as many key heads are
/// shared.
struct AttentionMode {
  std::int64_t num_sequences, num_heads;
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
  std::optional<AttentionMode> attention{};  ///< then w1 is [E, F, D]
  Tensor kv{};                               ///< [2 F, D], with attention

  /// `imbalance`: largest over mean load; 1: each expert gets the same number of rows.
  explicit ExpertInputs(const ExpertShape& shape, double imbalance = 1);
  /// Of one ParallelLinear.
  ExpertInputs(const ExpertShape& shape, const LinearMode& mode);
  /// Of a mixture of attention.
  ExpertInputs(const ExpertShape& shape, const AttentionMode& attention);
};

}  // namespace smoe
