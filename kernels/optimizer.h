// Optimizer kernels over flat arenas: AdamW, the global gradient norm, and the selection bias that
// balances experts without a loss.
#pragma once
#include <cstdint>
#include <span>

#include "core/base/dtype.h"
#include "core/base/launch.h"

namespace smoe::kernels {

/// A run of arena elements with its own decay. Tables of them lie on the host.
struct AdamwRange {
  std::int64_t offset;
  std::int64_t numel;
  double weight_decay;
};

/// One AdamW step (arXiv:1711.05101) with gradient g' = scale g, for each element of each range:
///   m = beta1 m + (1 - beta1) g',  v = beta2 v + (1 - beta2) g'^2,
///   w = (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).
/// Where the scale is not finite nothing is written: a gradient that overflowed changes no weight.
struct AdamwArgs {
  void* master;          // weights, updated
  const void* gradient;  // as the whole arena, like all of these
  void* m;
  void* v;
  DType dtype;                         ///< of the four: f32 or f64
  void* compute_bf16;                  ///< also receives the new weights, rounded; null: none
  std::span<const AdamwRange> ranges;  ///< ascending and disjoint
  double lr;
  double beta1;
  double beta2;
  double epsilon;
  std::int64_t step;             ///< t, from 1 on
  const double* gradient_scale;  ///< [1] on the device; null: 1
};
void adamw(const Launch& launch, const AdamwArgs& args);

/// result[0] = sum of x^2 in double: blocks of a fixed size, added in order. Finite for every
/// finite f32 x, so it also tells whether x holds an infinity or a NaN.
struct SumOfSquaresArgs {
  const void* x;
  DType dtype;  ///< f32 or f64
  std::int64_t numel;
  double* result;
  void* workspace = nullptr;  ///< sum_of_squares_workspace_bytes()
};
void sum_of_squares(const Launch& launch, const SumOfSquaresArgs& args);
std::int64_t sum_of_squares_workspace_bytes(const Launch& launch, const SumOfSquaresArgs& args);

/// norm = sqrt(sum_of_squares); coefficient = min(1, max_norm / norm), 1 where max_norm is 0 (no
/// clipping), and NaN where the norm is not finite.
struct ClipCoefficientArgs {
  const double* sum_of_squares;  // [1]
  double max_norm;
  double* norm;         // [1]
  double* coefficient;  // [1]
};
void clip_coefficient(const Launch& launch, const ClipCoefficientArgs& args);

/// bias[e] += rate * sign(mean of load - load[e]) (arXiv:2408.15664, Algorithm 1).
struct SelectionBiasArgs {
  float* bias;               // [E]
  const std::int64_t* load;  // [E], rows of each expert over one optimizer step
  std::int64_t num_experts;
  double rate;
};
void update_selection_bias(const Launch& launch, const SelectionBiasArgs& args);

}  // namespace smoe::kernels
