#include "tests/reference/embedding.h"

#include <doctest/doctest.h>

#include "autograd/gradient_step.h"
#include "autograd/ops.h"
#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/gradients.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Sizes {
  std::int64_t num_tokens, vocabulary, width;
};
constexpr Sizes kSizes[] = {{1, 1, 1},   {0, 3, 2},    {2, 1, 3},  {1, 5, 2},   {3, 3, 3},
                            {5, 2, 7},   {8, 16, 1},   {7, 4, 31}, {16, 8, 2},  {31, 3, 33},
                            {33, 9, 4},  {63, 2, 2},   {64, 7, 5}, {65, 5, 1},  {100, 1, 4},
                            {9, 257, 2}, {12, 30, 65}, {4, 4, 64}, {70, 70, 3}, {129, 11, 6}};

Tensor ids_of(const Sizes& sizes) {
  RandomStream stream(5, sizes.num_tokens, sizes.vocabulary);
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < sizes.num_tokens; ++t)
    ids.push_back(static_cast<std::int32_t>(stream.below(sizes.vocabulary)));
  return Tensor::from(ids, {sizes.num_tokens});
}

}  // namespace

TEST_CASE("embedding and its gradient agree with plain loops in every dtype") {
  const PoisonGuard poison;
  for (const Sizes& sizes : kSizes)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
      Parameter weight("w", {sizes.vocabulary, sizes.width}, Init::normal(1));
      ParameterStore store({&weight}, {accumulation_dtype(dtype), dtype, 1});
      Tape tape;
      const TapeScope scope(tape);
      const Tensor ids = ids_of(sizes);
      const Variable y = embedding(ids, weight);
      CHECK(values_of(y.data()) == reference::embedding(sizes.width, values_of(weight.value()),
                                                        ids.to_vector<std::int32_t>()));
      const Tensor dy = random_normal("dy", y.shape(), dtype);
      const GradientStep step(store);
      tape.backward(dot(y, dy));
      std::vector<double> wanted(weight.numel(), 0);
      reference::embedding_backward(sizes.width, values_of(dy), ids.to_vector<std::int32_t>(),
                                    wanted);
      check_close("embedding: dweight", weight.gradient(), wanted,
                  {.sum_length = sizes.num_tokens + 1});
    }
}

TEST_CASE("embedding's gradients agree with central differences, also of a weight used twice") {
  for (const Sizes& sizes : kSizes) {
    Parameter weight("w", {sizes.vocabulary, sizes.width}, Init::normal(1));
    ParameterStore store({&weight}, {DType::f64, DType::f64, 1});
    const Tensor ids = ids_of(sizes);
    check_gradients(
        "embedding",
        [&](const auto&) {
          const Variable y = embedding(ids, weight);
          return std::vector{y, linear(y, weight)};
        },
        {}, &store);
  }
}

TEST_CASE("embedding rejects invalid arguments") {
  Parameter weight("w", {4, 2}, Init::constant(1));
  ParameterStore store({&weight}, {});
  CHECK_THROWS_WITH_AS(embedding(Tensor::zeros({2, 2}, DType::i32), weight),
                       "embedding: token_ids must be i32 [T]; got [2, 2] i32", UsageError);
  CHECK_THROWS_AS(embedding(Tensor::zeros({2}, DType::i64), weight), UsageError);
  Parameter vector("v", {4}, Init::constant(1));
  ParameterStore other({&vector}, {});
  CHECK_THROWS_WITH_AS(embedding(Tensor::zeros({2}, DType::i32), vector),
                       "embedding: weight must be [V, D]; got v [4]", UsageError);
}

TEST_CASE("ids outside the vocabulary are refused before they index the weight") {
  Parameter weight("w", {4, 2}, Init::normal(1));
  ParameterStore store({&weight}, {DType::f32, DType::f32, 1});
  const auto embed = [&](std::int32_t id) {
    embedding(Tensor::from(std::vector<std::int32_t>{3, id}, {2}), weight);
  };
  embed(0);
  CHECK_THROWS_WITH_AS(embed(4), "embedding: ids must be 0 to 3; got 4 at 1", UsageError);
  CHECK_THROWS_WITH_AS(embed(-1), "embedding: ids must be 0 to 3; got -1 at 1", UsageError);
}
