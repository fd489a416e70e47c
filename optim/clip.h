// Gradient clipping by the global norm, without a device synchronization.
#pragma once
#include "core/tensor.h"

namespace smoe {

/// The result of clipping. Both are f64 [1] on the device; Tensor::item() reads the norm to log it.
struct GradientClip {
  Tensor norm;         ///< Euclidean norm of the whole gradient; not finite if any element is not
  Tensor coefficient;  ///< min(1, max_norm / norm), or NaN if the norm is not finite;
                       ///< AdamW::step multiplies the gradient by it
};

/// f64 [1] on the device: the sum of squares of all elements, f32 or f64, accumulated in double in
/// a fixed order.
Tensor sum_of_squares(const Tensor& values);
/// The same into `result`, f64 [1].
void sum_of_squares(const Tensor& values, const Tensor& result);
/// f64 [1] on the device: the sum of f64 `terms`, added one after the other.
Tensor sequential_sum(const Tensor& terms);

/// The norm sqrt(squares), squares f64 [1], and the coefficient that clips a gradient of that norm
/// to `max_norm`; 0 disables clipping. Throws: UsageError for a negative or non-finite max_norm.
GradientClip clip_to(const Tensor& squares, double max_norm);

}  // namespace smoe
