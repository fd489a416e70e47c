#include "kernels/elementwise.h"

#include <doctest/doctest.h>

#include "tests/kernels/elementwise_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kSizes[] = {0, 1, 7, 8, 9, 2048, 2049, 100003};
constexpr DType kDtypes[] = {DType::f32, DType::bf16};

}  // namespace

TEST_CASE("elementwise kernels on the GPU agree with the CPU's") {
  for (const std::int64_t n : kSizes)
    for (const DType dtype : kDtypes)
      for (const std::int64_t skip : {0, 1}) {  // with and without 16-byte alignment
        if (skip > n) continue;
        check_on_gpu(concat("n ", n, " skip ", skip, " ", name_of(dtype)), [&] {
          const ElementwiseCase c(n, dtype, skip);
          std::vector<Result> results{
              {"add", c.add()}, {"fill", c.fill(0.3)}, {"jitter", c.jitter(0.1)}};
          for (const DType to : kDtypes)
            for (const double beta : {0.0, 0.5})
              results.push_back({concat("scale to ", name_of(to), " beta ", beta),
                                 c.scale(to, 1.7, beta),
                                 {.sum_length = 1}});
          results.push_back({"add in place", c.add_in_place()});
          results.push_back({"jitter in place", c.jitter_in_place(0.1)});
          return results;
        });
      }
}

TEST_CASE("normals on the GPU have the bits of the CPU's") {
  for (const DType dtype : kDtypes)
    for (const std::int64_t n : {1, 2, 9, 2049, 1'000'003})
      for (const std::int64_t skip : {0, 1})
        for (const std::int64_t first : {0, 6, 1 << 22}) {
          const auto draw = [&] {
            return ElementwiseCase(n, dtype, skip).fill_normal(0.02, first);
          };
          const Tensor on_cpu = draw();
          const StreamGuard guard(gpu_stream());
          check_same_bits(concat(name_of(dtype), " n ", n, " skip ", skip, " first ", first),
                          draw(), on_cpu);
        }
}

TEST_CASE("sums and gathers of scalars on the GPU agree with the CPU's") {
  for (const std::int64_t n : {1, 2, 128, 129, 300})
    check_on_gpu(concat(n, " scalars"), [&] {
      const ScalarCase c(n, DType::f32);
      return std::vector<Result>{{"weighted_sum", c.weighted_sum(), {.sum_length = n * n}},
                                 {"gather", c.gather()}};
    });
}

TEST_CASE("f64 tensors are rejected on a GPU") {
  const StreamGuard guard(gpu_stream());
  const Tensor x = Tensor::empty({4}, DType::f64);
  CHECK_THROWS_WITH_AS(kernels::fill(launch(), {x.data(), DType::f64, 4, 1.0}),
                       "fill: dtype must be f32 or bf16 on a GPU; got f64", UsageError);
}
