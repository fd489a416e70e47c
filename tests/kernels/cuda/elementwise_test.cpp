#include "kernels/elementwise.h"

#include <doctest/doctest.h>

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
        const std::int64_t count = n - skip;
        check_on_gpu(concat("n ", n, " skip ", skip, " ", name_of(dtype)), [&] {
          const auto part = [&](const Tensor& x) { return x.rows(skip, n).data(); };
          const Tensor x = random_normal("x", {n}, dtype), y = random_normal("y", {n}, dtype);
          const Tensor sum = x.clone(Category::activations);
          const Tensor filled = x.clone(Category::activations);
          const Tensor jittered = x.clone(Category::activations);
          kernels::add(launch(), {part(x), part(y), part(sum), dtype, count});
          kernels::fill(launch(), {part(filled), dtype, count, 0.3});
          kernels::jitter(launch(), {part(x), part(jittered), dtype, count, 0.1, 1, 2, 3});
          std::vector<Result> results{{"sum", sum}, {"fill", filled}, {"jitter", jittered}};
          for (const DType target : kDtypes) {
            const Tensor scaled = random_normal("x", {n}, target);
            kernels::scale(launch(), {part(x), dtype, part(scaled), target, count, 1.7});
            results.push_back({concat("scale to ", name_of(target)), scaled});
          }
          return results;
        });
      }
}

TEST_CASE("f64 tensors are rejected on a GPU") {
  const StreamGuard guard(gpu_stream());
  const Tensor x = Tensor::empty({4}, DType::f64);
  CHECK_THROWS_WITH_AS(kernels::fill(launch(), {x.data(), DType::f64, 4, 1.0}),
                       "fill: dtype must be f32 or bf16 on a GPU; got f64", UsageError);
}
