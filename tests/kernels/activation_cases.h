// Cases of kernels/activation.h on the current stream.
#pragma once
#include "tests/support/activations.h"
#include "tests/support/compare.h"

namespace smoe::test {

/// Forward and backward of random pre-activations h [N, 2F or F], given da [N, F]. Checks that a
/// backward in place gives the same bits.
struct ActivationCase {
  ActivationCase(kernels::Activation kind, DType dtype, std::int64_t n, std::int64_t f) {
    h = random_normal("h", {n, preactivation_width(kind, f)}, dtype, 3);
    da = random_normal("da", {n, f}, dtype);
    a = Tensor::empty({n, f}, dtype);
    dh = Tensor::empty_like(h);
    kernels::activation_forward(launch(), {kind, matrix_of(h), matrix_of(a)});
    kernels::activation_backward(launch(), {kind, matrix_of(h), matrix_of(da), matrix_of(dh)});
    const Tensor in_place = h.clone(Category::activations);
    kernels::activation_backward(launch(),
                                 {kind, matrix_of(in_place), matrix_of(da), matrix_of(in_place)});
    check_same_bits("dh over h", in_place, dh);
  }

  Tensor h, da, a, dh;
};

}  // namespace smoe::test
