#include "kernels/combine.h"

#include <doctest/doctest.h>

#include "tests/kernels/combine_cases.h"
#include "tests/support/gpu_moe_cases.h"

using namespace smoe;
using namespace smoe::test;
using kernels::RowLayout;

TEST_CASE("backward of combine on the GPU agrees with the CPU's") {
  for_gpu_moe_cases([](const MoeCase& test, DType dtype) {
    check_on_gpu(concat(test.name(), " ", name_of(dtype)), [&] {
      const auto [dgates, dy, dbias] = CombineCase(test, dtype, RowLayout::grouped).backward();
      return std::vector<Result>{
          {"dgates", dgates, {.sum_length = test.d}},
          {"dy", dy},
          {"dbias", dbias, {.sum_length = 2 * test.num_tokens * test.top_k + 2}}};
    });
  });
}

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
