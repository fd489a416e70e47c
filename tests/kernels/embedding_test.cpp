#include "kernels/embedding.h"

#include <doctest/doctest.h>

#include <algorithm>

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

// With a bf16 gradient.
EmbeddingCase rounded_case(const Sizes& sizes, DType dtype, bool repeated) {
  return {sizes.vocabulary, sizes.width, ids_of(sizes, repeated), dtype, DType::bf16};
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

TEST_CASE("a bf16 gradient of embedding_backward is the f32 one, rounded once") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const bool repeated : {false, true})
      for (const double beta : {0.0, 1.0}) {
        const EmbeddingCase test = rounded_case(sizes, DType::bf16, repeated);
        // From the same previous gradient, which is added to in f32.
        std::vector<double> wanted = values_of(test.initial_dtable());
        if (beta == 0) std::fill(wanted.begin(), wanted.end(), 0.0);
        const auto rows = values_of(test.doutput());
        for (std::size_t t = 0; t < test.ids.size(); ++t)
          for (std::int64_t j = 0; j < sizes.width; ++j) {
            double& sum = wanted[test.ids[t] * sizes.width + j];
            sum = static_cast<float>(sum) + static_cast<float>(rows[t * sizes.width + j]);
          }
        check_same_bits("embedding: dtable", test.backward(beta),
                        tensor_of(wanted, {sizes.vocabulary, sizes.width}, DType::bf16));
      }
}

TEST_CASE("embedding_backward's bits do not depend on the number of threads") {
  for (const DType dtype : kDtypes)
    for (const bool repeated : {false, true})
      check_thread_independence("embedding_backward", [&] {
        const Sizes sizes{700, 50, 200};
        return std::vector{case_of(sizes, dtype, repeated).backward(1),
                           rounded_case(sizes, DType::bf16, repeated).backward(1)};
      });
}
