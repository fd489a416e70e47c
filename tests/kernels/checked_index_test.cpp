// In debug and sanitized builds, kernels refuse indices from data that are out of range.
#include "kernels/checked_index.h"

#include <doctest/doctest.h>

#include "autograd/ops/run_kernel.h"
#include "kernels/routing.h"
#include "tests/kernels/cross_entropy_cases.h"
#include "tests/kernels/embedding_cases.h"

using namespace smoe;
using namespace smoe::test;

TEST_CASE("an index in range passes") {
  CHECK(kernels::checked_index(0, 1) == 0);
  CHECK(kernels::checked_index(6, 7) == 6);
}

#ifdef SMOE_CHECK_INDICES
TEST_CASE("an index out of range is an internal error with both numbers") {
  CHECK_THROWS_WITH_AS(kernels::checked_index(7, 7), doctest::Contains("index 7 of 7"),
                       InternalError);
  CHECK_THROWS_AS(kernels::checked_index(-1, 7), InternalError);
}

TEST_CASE("kernels refuse token ids, targets and expert ids out of range") {
  for (const std::int32_t id : {-1, 5}) {
    const EmbeddingCase embedding{.vocabulary = 5, .width = 8, .ids = {0, id}, .dtype = DType::f32};
    CHECK_THROWS_AS(embedding.forward(), InternalError);
    CHECK_THROWS_AS(embedding.backward(0), InternalError);

    const Tensor ids = Tensor::from(std::vector<std::int32_t>{0, id, 4}, {3});
    const Tensor sorted = Tensor::empty({3}, DType::i32), grouped = Tensor::empty({3}, DType::i32),
                 offsets = Tensor::empty({6}, DType::i32);
    const kernels::GroupByExpertArgs args{.expert_ids = ids.data_as<std::int32_t>(),
                                          .num_rows = 3,
                                          .num_experts = 5,
                                          .sorted_scattered_ids = sorted.data_as<std::int32_t>(),
                                          .grouped_rows = grouped.data_as<std::int32_t>(),
                                          .expert_offsets = offsets.data_as<std::int32_t>()};
    CHECK_THROWS_AS(
        run_kernel(kernels::group_by_expert, kernels::group_by_expert_workspace_bytes, args),
        InternalError);
  }
  CHECK_THROWS_AS(run_cross_entropy(random_logits({2, 5}, DType::f32, 1), {0, 5}, false, 1),
                  InternalError);
}
#endif
