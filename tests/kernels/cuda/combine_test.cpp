#include "kernels/combine.h"

#include <doctest/doctest.h>

#include "tests/kernels/combine_cases.h"
#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

TEST_CASE("combine and the gates' gradient on the GPU agree with the CPU's") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    for (const RowLayout layout : {RowLayout::grouped, RowLayout::scattered})
      check_on_gpu(concat(test.name(), " ", name_of(dtype)), [&] {
        const CombineCase c(test, dtype, layout);
        return std::vector<Result>{{"out", c.out(false), {.sum_length = test.top_k}},
                                   {"out, gated", c.out(true), {.sum_length = test.top_k}},
                                   {"dgates", c.dgates(), {.sum_length = test.d}}};
      });
  });
}
