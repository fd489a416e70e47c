#include "kernels/activation.h"

#include <doctest/doctest.h>

#include "tests/support/activations.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("activations and their slopes on the GPU agree with the CPU's") {
  for (const auto& [kind, act] : activations())
    for (const DType dtype : {DType::bf16, DType::f32})
      for (const auto& [n, f] :
           {std::pair{1, 1}, {0, 3}, {3, 0}, {5, 17}, {33, 40}, {2, 257}, {129, 512}})
        check_on_gpu(concat("activation ", static_cast<int>(kind), " ", name_of(dtype), " [", n,
                            ", ", f, "]"),
                     [&, kind = kind, n = n, f = f] {
                       const std::int64_t width = preactivation_width(kind, f);
                       const Tensor h = random_normal("h", {n, width}, dtype, 3);
                       const Tensor da = random_normal("da", {n, f}, dtype);
                       const Tensor a = Tensor::empty({n, f}, dtype);
                       const Tensor dh = Tensor::empty({n, width}, dtype);
                       kernels::activation_forward(launch(), {kind, matrix_of(h), matrix_of(a)});
                       kernels::activation_backward(
                           launch(), {kind, matrix_of(h), matrix_of(da), matrix_of(dh)});
                       kernels::activation_backward(
                           launch(), {kind, matrix_of(h), matrix_of(da), matrix_of(h)});
                       check_same_bits("dh over h", h, dh);
                       return std::vector<Result>{{"a", a}, {"dh", dh}};
                     });
}
