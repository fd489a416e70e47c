#include "kernels/embedding.h"

#include <doctest/doctest.h>

#include "tests/kernels/embedding_cases.h"
#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Case {
  std::int64_t num_tokens, vocabulary, width;
  std::int64_t distinct;  // ids are drawn below this
};
// No tokens, one row for all of them, rows without a token, tails; few rows, of which all are
// longer than a thread block's window of tokens or end with one.
constexpr Case kCases[] = {{0, 5, 8, 5},          {1, 1, 1, 1},     {7, 3, 5, 3},
                           {100, 1000, 8, 1000},  {300, 4, 264, 1}, {1000, 50, 40, 20},
                           {64, 9, 8, 1},         {129, 2, 24, 2},  {2000, 7, 1040, 3},
                           {4096, 257, 1024, 257}};

std::vector<Result> run(const Case& test, DType dtype, DType gradients, double beta) {
  RandomStream stream(3, test.num_tokens, test.vocabulary);
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < test.num_tokens; ++t)
    ids.push_back(static_cast<std::int32_t>(stream.below(test.distinct)));
  const EmbeddingCase embedding{test.vocabulary, test.width, ids, dtype, gradients};
  return {{"output", embedding.forward()},
          {"dtable", embedding.backward(beta), {.sum_length = test.num_tokens + 1}}};
}

}  // namespace

TEST_CASE("embedding and its backward on the GPU agree with the CPU's") {
  for (const Case& test : kCases)
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const DType gradients : {DType::f32, DType::bf16})
        for (const double beta : {0.0, 1.0, 0.5})
          check_on_gpu(
              concat("embedding T ", test.num_tokens, " V ", test.vocabulary, " D ", test.width,
                     " ", name_of(dtype), ", gradient ", name_of(gradients), " beta ", beta),
              [&] { return run(test, dtype, gradients, beta); });
}
