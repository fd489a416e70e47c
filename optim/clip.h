// Gradient clipping by the global norm, without a device synchronization.
#pragma once
#include <span>

#include "core/range.h"
#include "core/tensor.h"

namespace smoe {

/// The result of clipping. Both are f64 [1] on the device; Tensor::item() reads the norm to log it.
struct GradientClip {
  Tensor norm;         ///< Euclidean norm of the whole gradient; not finite if any element is not
  Tensor coefficient;  ///< min(1, max_norm / norm), or NaN if the norm is not finite;
                       ///< AdamW::step multiplies the gradient by it
};

/// f64 [1] on the device: the sum of squares of all elements, f32, f64 or bf16, accumulated in
/// double in a fixed order.
Tensor sum_of_squares(const Tensor& values);
/// The same of each range of `values` at once: that of ranges[i] goes to element i * stride of
/// `results`, f64.
void sum_of_squares(const Tensor& values, std::span<const Range> ranges, const Tensor& results,
                    std::int64_t stride);
/// f64 [1] on the device: the sum of f64 `terms`, added one after the other.
Tensor sequential_sum(const Tensor& terms);

/// The norm sqrt(squares), squares f64 [1], and the coefficient that clips a gradient of that norm
/// to `max_norm`; 0 disables clipping. Throws: UsageError for a negative or non-finite max_norm.
GradientClip clip_to(const Tensor& squares, double max_norm);
/// The same into `result`. The coefficient is also NaN if one of `losses`, f64, is not finite, so
/// that such a step changes no weight.
void clip_to(const Tensor& squares, double max_norm, const Tensor& losses,
             const GradientClip& result);

}  // namespace smoe
