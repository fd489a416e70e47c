#include "kernels/embedding.h"

#include <doctest/doctest.h>

#include "tests/kernels/embedding_cases.h"
#include "tests/reference/embedding.h"
#include "tests/support/compare.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr DType kDtypes[] = {DType::f32, DType::f64, DType::bf16};

struct Sizes {
  std::int64_t num_tokens, vocabulary, width;
};
constexpr Sizes kSizes[] = {{1, 1, 1},    {7, 3, 5},      {65, 257, 33}, {64, 2, 31},
                            {200, 9, 64}, {130, 1000, 7}, {0, 4, 3}};

// Random tokens, or only the last one.
std::vector<std::int32_t> ids_of(const Sizes& sizes, bool repeated) {
  RandomStream stream(5, sizes.num_tokens, sizes.vocabulary);
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < sizes.num_tokens; ++t)
    ids.push_back(static_cast<std::int32_t>(repeated ? sizes.vocabulary - 1
                                                     : stream.below(sizes.vocabulary)));
  return ids;
}

EmbeddingCase case_of(const Sizes& sizes, DType dtype, bool repeated) {
  return {sizes.vocabulary, sizes.width, ids_of(sizes, repeated), dtype};
}

}  // namespace

TEST_CASE("embedding copies the rows of its token ids") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : kDtypes) {
      const EmbeddingCase test = case_of(sizes, dtype, false);
      CHECK(values_of(test.forward()) ==
            reference::embedding(sizes.width, values_of(test.table()), test.ids));
    }
}

TEST_CASE("embedding_backward accumulates the rows of each token and applies beta") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : kDtypes)
      for (const bool repeated : {false, true})
        for (const double beta : {0.0, 1.0}) {
          const EmbeddingCase test = case_of(sizes, dtype, repeated);
          std::vector<double> wanted = values_of(test.initial_dtable());
          for (double& value : wanted) value *= beta;
          reference::embedding_backward(sizes.width, values_of(test.doutput()), test.ids, wanted);
          check_close("embedding: dtable", test.backward(beta), wanted,
                      {.sum_length = sizes.num_tokens + 1});
        }
}

TEST_CASE("embedding_backward's bits do not depend on the number of threads") {
  for (const DType dtype : kDtypes)
    for (const bool repeated : {false, true})
      check_thread_independence("embedding_backward", [&] {
        return std::vector{case_of({700, 50, 200}, dtype, repeated).backward(1)};
      });
}
