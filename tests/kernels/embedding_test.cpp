#include "kernels/embedding.h"

#include <doctest/doctest.h>

#include "core/device.h"
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

// Tokens of all kinds, or the last one alone.
std::vector<std::int32_t> ids_of(const Sizes& sizes, bool repeated) {
  RandomStream stream(5, sizes.num_tokens, sizes.vocabulary);
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < sizes.num_tokens; ++t)
    ids.push_back(static_cast<std::int32_t>(repeated ? sizes.vocabulary - 1
                                                     : stream.below(sizes.vocabulary)));
  return ids;
}

Tensor earlier_gradient(const Sizes& sizes, DType dtype) {
  return random_normal("dtable", {sizes.vocabulary, sizes.width}, accumulation_dtype(dtype));
}

Tensor run_backward(const Sizes& sizes, DType dtype, const std::vector<std::int32_t>& ids,
                    double beta) {
  const Tensor doutput = random_normal("doutput", {sizes.num_tokens, sizes.width}, dtype);
  const Tensor token_ids = Tensor::from(ids, {sizes.num_tokens});
  const Tensor dtable =
      beta == 0 ? Tensor::empty({sizes.vocabulary, sizes.width}, accumulation_dtype(dtype))
                : earlier_gradient(sizes, dtype);
  kernels::EmbeddingBackwardArgs args{.doutput = matrix_of(doutput),
                                      .token_ids = token_ids.data_as<std::int32_t>(),
                                      .dtable = matrix_of(dtable),
                                      .beta = beta};
  const Tensor workspace =
      Tensor::empty({kernels::embedding_backward_workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = workspace.data();
  kernels::embedding_backward(launch(), args);
  return dtable;
}

}  // namespace

TEST_CASE("embedding copies the rows its tokens name") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : kDtypes) {
      const auto [num_tokens, vocabulary, width] = sizes;
      const std::vector<std::int32_t> ids = ids_of(sizes, false);
      const Tensor table = random_normal("table", {vocabulary, width}, dtype);
      const Tensor token_ids = Tensor::from(ids, {num_tokens});
      const Tensor output = Tensor::empty({num_tokens, width}, dtype);
      kernels::embedding(launch(), {.table = matrix_of(table),
                                    .token_ids = token_ids.data_as<std::int32_t>(),
                                    .output = matrix_of(output)});
      CHECK(values_of(output) == reference::embedding(width, values_of(table), ids));
    }
}

TEST_CASE("embedding_backward adds up the rows of each token and honours beta") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : kDtypes)
      for (const bool repeated : {false, true})
        for (const double beta : {0.0, 1.0}) {
          const std::vector<std::int32_t> ids = ids_of(sizes, repeated);
          std::vector<double> wanted = values_of(earlier_gradient(sizes, dtype));
          for (double& value : wanted) value *= beta;
          reference::embedding_backward(
              sizes.width,
              values_of(random_normal("doutput", {sizes.num_tokens, sizes.width}, dtype)), ids,
              wanted);
          check_close("embedding: dtable", run_backward(sizes, dtype, ids, beta), wanted,
                      {.sum_length = sizes.num_tokens + 1});
        }
}

TEST_CASE("embedding_backward's bits do not depend on the number of threads") {
  for (const DType dtype : kDtypes)
    for (const bool repeated : {false, true})
      check_thread_independence("embedding_backward", [&] {
        const Sizes sizes{700, 50, 200};
        return std::vector{run_backward(sizes, dtype, ids_of(sizes, repeated), 1)};
      });
}
