// Small ops for tests of other ops: they control who references a tensor and measure the memory of
// backward.
#pragma once
#include "autograd/tape.h"
#include "core/memory.h"
#include "tests/support/gradients.h"

namespace smoe::test {

/// A copy of x, so that a following op may hold the only reference to it.
inline Variable copy_of(const Variable& x) {
  return record("copy", x.data().clone(Category::activations), {&x}, {},
                [](Tensor dy, InputGradients& out) { out.give(0, std::move(dy)); });
}

/// Like dot, but the gradient is `weights` itself: a dy to which the caller holds a reference.
inline Variable dot_with_shared_gradient(const Variable& x, const Tensor& weights) {
  return record("dot_shared", dot(x.data(), weights).data(), {&x}, {},
                [weights](Tensor, InputGradients& out) { out.give(0, weights); });
}

/// Peak bytes of activations that the backward pass from `loss` allocates beyond those that exist
/// before, without its one-element seed.
inline std::int64_t peak_bytes_of_backward(Tape& tape, const Variable& loss) {
  reset_peak_memory();
  const std::int64_t before = memory_use(Category::activations).now_bytes;
  tape.backward(loss);
  return memory_use(Category::activations).peak_bytes - before - size_of(loss.dtype());
}

}  // namespace smoe::test
