// Gradient clipping by the global norm, without waiting for the device.
#pragma once
#include "autograd/parameter_store.h"

namespace smoe {

/// What clipping found. Both are f64 [1] on the device; read norm (Tensor::item()) to log it.
struct GradientClip {
  Tensor norm;         ///< Euclidean norm of the whole gradient, not finite if any element is not
  Tensor coefficient;  ///< min(1, max_norm / norm), or NaN where the norm is not finite; what
                       ///< AdamW::step multiplies the gradient by
};

/// f64 [1] on the device: the sum of the squares of all elements, f32 or f64, kept in double in a
/// fixed order.
Tensor sum_of_squares(const Tensor& values);

/// The norm whose square `squares` (f64 [1]) is, and the factor that clips a gradient of that norm
/// to `max_norm`; 0 turns clipping off. Throws: UsageError for a negative or non-finite max_norm.
GradientClip clip_to(const Tensor& squares, double max_norm);

/// As clip_to for the norm of the store's gradient arena. The gradient itself is left as it is.
GradientClip clip_gradient(const ParameterStore& store, double max_norm);

}  // namespace smoe
