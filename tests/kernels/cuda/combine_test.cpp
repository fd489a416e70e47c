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
      const CombineCase c(test, dtype, RowLayout::grouped);
      const auto [dgates, dy, dbias] = c.backward();
      const Closeness of_bias{.sum_length = 2 * test.num_tokens * test.top_k + 2};
      return std::vector<Result>{{"dgates", dgates, {.sum_length = test.d}},
                                 {"dy", dy},
                                 {"dbias", dbias, of_bias},
                                 {"bf16 dbias", c.backward(DType::bf16).dbias, of_bias}};
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
