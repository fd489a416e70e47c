#include "kernels/embedding.h"

#include <doctest/doctest.h>

#include "tests/support/cuda.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Case {
  std::int64_t num_tokens, vocabulary, width;
  std::int64_t distinct;  // ids are drawn below this
};
// No tokens, one row for all of them, rows without a token, tails.
constexpr Case kCases[] = {{0, 5, 8, 5},          {1, 1, 1, 1},     {7, 3, 5, 3},
                           {100, 1000, 8, 1000},  {300, 4, 264, 1}, {1000, 50, 40, 20},
                           {4096, 257, 1024, 257}};

std::vector<Result> run(const Case& test, DType dtype, double beta) {
  RandomStream stream(3, test.num_tokens, test.vocabulary);
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < test.num_tokens; ++t)
    ids.push_back(static_cast<std::int32_t>(stream.below(test.distinct)));
  const Tensor token_ids = Tensor::from(ids, {test.num_tokens});
  const Tensor table = random_normal("table", {test.vocabulary, test.width}, dtype);
  const Tensor output = Tensor::empty({test.num_tokens, test.width}, dtype);
  kernels::embedding(launch(), {.table = matrix_of(table),
                                .token_ids = token_ids.data_as<std::int32_t>(),
                                .output = matrix_of(output)});
  const Tensor doutput = random_normal("doutput", output.shape(), dtype);
  const Tensor dtable = beta == 0 ? Tensor::empty(table.shape(), DType::f32)
                                  : random_normal("dtable", table.shape(), DType::f32);
  kernels::EmbeddingBackwardArgs args{.doutput = matrix_of(doutput),
                                      .token_ids = token_ids.data_as<std::int32_t>(),
                                      .dtable = matrix_of(dtable),
                                      .beta = beta};
  const Tensor workspace =
      Tensor::empty({kernels::embedding_backward_workspace_bytes(launch(), args)}, DType::u8);
  args.workspace = workspace.data();
  kernels::embedding_backward(launch(), args);
  return {{"output", output}, {"dtable", dtable, {.sum_length = test.num_tokens + 1}}};
}

}  // namespace

TEST_CASE("embedding and its backward on the GPU agree with the CPU's") {
  for (const Case& test : kCases)
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const double beta : {0.0, 1.0, 0.5})
        check_on_gpu(concat("embedding T ", test.num_tokens, " V ", test.vocabulary, " D ",
                            test.width, " ", name_of(dtype), " beta ", beta),
                     [&] { return run(test, dtype, beta); });
}
