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

/// The norm of the store's gradient arena and the factor that clips it to `max_norm`; 0 turns
/// clipping off. The gradient itself is left as it is. The sum is kept in double in a fixed order.
/// Throws: UsageError for a negative or non-finite max_norm.
GradientClip clip_gradient(const ParameterStore& store, double max_norm);

}  // namespace smoe
