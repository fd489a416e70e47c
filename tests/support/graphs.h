// Small ops for tests of other ops: they say who holds a tensor, and what backward costs.
#pragma once
#include "autograd/tape.h"
#include "core/memory.h"
#include "tests/support/gradients.h"

namespace smoe::test {

/// The same values in memory of their own, so that an op behind may be the only one to hold it.
inline Variable copy_of(const Variable& x) {
  return record("copy", x.data().clone(Category::activations), {&x}, {},
                [](Tensor dy, InputGradients& out) { out.give(0, std::move(dy)); });
}

/// As dot, but the caller's `weights` themselves are the gradient: a dy that somebody else holds.
inline Variable dot_with_shared_gradient(const Variable& x, const Tensor& weights) {
  return record("dot_shared", dot(x.data(), weights).data(), {&x}, {},
                [weights](Tensor, InputGradients& out) { out.give(0, weights); });
}

/// Bytes of activations that the backward pass from `loss` holds at its peak beyond those that were
/// held before, its own one-element seed not counted.
inline std::int64_t peak_bytes_of_backward(Tape& tape, const Variable& loss) {
  reset_peak_memory();
  const std::int64_t before = memory_use(Category::activations).now_bytes;
  tape.backward(loss);
  return memory_use(Category::activations).peak_bytes - before - size_of(loss.dtype());
}

}  // namespace smoe::test
