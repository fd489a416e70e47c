// Optimizer kernels over flat buffers: AdamW, the global gradient norm, and the selection bias that
// balances experts without an auxiliary loss.
#pragma once
#include <cstdint>
#include <span>

#include "core/base/dtype.h"
#include "core/base/launch.h"

namespace smoe::kernels {

/// Consecutive elements with the same weight decay, by their first element in each buffer. In host
/// memory.
struct AdamwRange {
  std::int64_t weight;    ///< in the weights
  std::int64_t gradient;  ///< in the gradient
  std::int64_t moment;    ///< in both moments and the remainders
  std::int64_t numel;
  double weight_decay;
};

/// One AdamW step (arXiv:1711.05101) with gradient g' = scale g on each element of each range:
///   m = beta1 m + (1 - beta1) g',  v = beta2 v + (1 - beta2) g'^2,
///   w = (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).
/// w is computed from m and v as they are before they are rounded to bf16.
/// If the scale is not finite, nothing is written: a gradient that overflowed changes no weight.
struct AdamwArgs {
  void* weights;              ///< master weights of `dtype`; with `remainders`, bf16
  std::uint16_t* remainders;  ///< f32 master weights are split_weight.h's halves; null: not split
  const void* gradient;       ///< of `gradient_dtype`
  void* m;                    ///< of `moment_dtype`, like v
  void* v;
  DType dtype;                         ///< f32 or f64, also of the arithmetic
  DType gradient_dtype;                ///< `dtype`, or bf16 beside f32
  DType moment_dtype;                  ///< `dtype`, or bf16 beside f32, rounded to nearest even
  std::span<const AdamwRange> ranges;  ///< disjoint, ascending in the moments
  double lr;
  double beta1;
  double beta2;
  double epsilon;
  std::int64_t step;             ///< t, starting at 1
  const double* gradient_scale;  ///< [1] on the device; null: 1
};
void adamw(const Launch& launch, const AdamwArgs& args);

/// Splits f32 master weights into the halves of core/base/split_weight.h, element by element.
struct SplitMastersArgs {
  const float* masters;
  void* weights;              ///< bf16
  std::uint16_t* remainders;  ///< null: only the rounded weights are wanted
  std::int64_t numel;
};
void split_masters(const Launch& launch, const SplitMastersArgs& args);

/// The inverse of split_masters.
struct JoinMastersArgs {
  const void* weights;              ///< bf16
  const std::uint16_t* remainders;  ///< null: zeros, so that the masters are the bf16 weights
  float* masters;
  std::int64_t numel;
};
void join_masters(const Launch& launch, const JoinMastersArgs& args);

/// Elements [offset, offset + numel) of a flat buffer. In host memory.
struct ElementRange {
  std::int64_t offset;
  std::int64_t numel;
};

/// results[i * stride] = sum of x^2 over ranges[i] in double, over blocks of a fixed size from the
/// start of the range, added in order. It is finite for every finite f32 or bf16 x, so a result
/// that is not finite means that the range holds an infinity or a NaN.
struct SumOfSquaresArgs {
  const void* x;
  DType dtype;  ///< f32, f64 or bf16
  std::span<const ElementRange> ranges;
  double* results;
  std::int64_t stride = 1;    ///< of the results
  void* workspace = nullptr;  ///< sum_of_squares_workspace_bytes()
};
void sum_of_squares(const Launch& launch, const SumOfSquaresArgs& args);
std::int64_t sum_of_squares_workspace_bytes(const Launch& launch, const SumOfSquaresArgs& args);

/// result[0] = x[0] + x[1] + ..., added in this order: a sum of terms whose order must not depend
/// on the device or on which rank computed them. For a few thousand terms.
struct SequentialSumArgs {
  const double* x;  ///< [numel]
  std::int64_t numel;
  double* result;  ///< [1]
};
void sequential_sum(const Launch& launch, const SequentialSumArgs& args);

/// norm = sqrt(sum_of_squares); coefficient = min(1, max_norm / norm), 1 if max_norm is 0 (no
/// clipping), NaN if the norm or any of `losses` is not finite: the device's decision whether the
/// update applies, as the gradient_scale of adamw and update_selection_bias.
struct ClipCoefficientArgs {
  const double* sum_of_squares;  ///< [1]
  double max_norm;
  const double* losses = nullptr;  ///< [num_losses]
  std::int64_t num_losses = 0;
  double* norm;         ///< [1]
  double* coefficient;  ///< [1]
};
void clip_coefficient(const Launch& launch, const ClipCoefficientArgs& args);

/// bias[e] += rate * sign(mean of load - load[e]) (arXiv:2408.15664, Algorithm 1). If the gradient
/// scale is not finite, nothing is written.
struct SelectionBiasArgs {
  float* bias;         ///< [E]
  const double* load;  ///< [E], rows of each expert over one optimizer step: whole numbers
  std::int64_t num_experts;
  double rate;
  const double* gradient_scale = nullptr;  ///< [1] on the device; null: finite
};
void update_selection_bias(const Launch& launch, const SelectionBiasArgs& args);

}  // namespace smoe::kernels
