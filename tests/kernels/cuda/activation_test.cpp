#include "kernels/activation.h"

#include <doctest/doctest.h>

#include "tests/kernels/activation_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("activations and their backward on the GPU agree with the CPU's") {
  for (const auto& [kind, act] : activations())
    for (const DType dtype : {DType::bf16, DType::f32})
      for (const auto& [n, f] :
           {std::pair{1, 1}, {0, 3}, {3, 0}, {5, 17}, {33, 40}, {2, 257}, {129, 512}})
        check_on_gpu(concat("activation ", static_cast<int>(kind), " ", name_of(dtype), " [", n,
                            ", ", f, "]"),
                     [&, kind = kind, n = n, f = f] {
                       const ActivationCase test(kind, dtype, n, f);
                       return std::vector<Result>{{"a", test.a}, {"dh", test.dh}};
                     });
}
