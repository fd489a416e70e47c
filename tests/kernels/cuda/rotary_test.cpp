#include "kernels/rotary.h"

#include <doctest/doctest.h>

#include "tests/kernels/rotary_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

std::vector<Result> run(const kernels::AttentionShape& shape, DType dtype, bool inverse,
                        bool in_place) {
  const Tensor source = random_qkv(shape, dtype);
  const Tensor target = in_place ? source : Tensor::empty_like(source);
  return {{"target", run_rotary(source, target, shape, inverse)}};
}

}  // namespace

TEST_CASE("rotary on the GPU agrees with the CPU's, in both directions and in place") {
  for (const kernels::AttentionShape& shape : {kernels::AttentionShape{1, 1, 1, 1, 2},
                                               {2, 0, 2, 1, 8},
                                               {0, 5, 2, 1, 8},
                                               {3, 17, 3, 1, 6},
                                               {2, 33, 4, 2, 16},
                                               {1, 2050, 8, 2, 128}})
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const bool inverse : {false, true})
        for (const bool in_place : {false, true})
          check_on_gpu(concat("rotary B ", shape.batch, " S ", shape.seq_len, " C ", shape.head_dim,
                              " inverse ", inverse, " in place ", in_place),
                       [&] { return run(shape, dtype, inverse, in_place); });
}
