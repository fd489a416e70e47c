// Gradients that are stored in bf16: every op that writes one adds to it in f32 and rounds once.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/gradient_step.h"
#include "layers/transformer.h"
#include "tests/support/compare.h"
#include "tests/support/model_cases.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kBatch = 3, kSeqLen = 11, kTokens = kBatch * kSeqLen;

// With a parameter of every kind.
ModelConfig config() {
  ModelConfig c = small_model_config();
  c.num_shared_experts = 1;
  c.attention = small_attention_mixture(true);
  c.mlp.settings["output_bias"] = true;
  return c;
}

// The gradients of the model's parameters after the given micro-batches.
std::vector<double> gradients_of(const ModelConfig& c, DType dtype,
                                 const std::vector<std::int64_t>& micro_batches) {
  Transformer model(c);
  const ParameterStore::Options options{
      .master = DType::f32, .compute = DType::bf16, .seed = 4, .trains = true, .gradients = dtype};
  ParameterStore store(model.parameters(), options);
  REQUIRE(store.gradient().dtype() == dtype);
  Tape tape;
  const TapeScope scope(tape);
  GradientStep step(store, static_cast<std::int64_t>(micro_batches.size()));
  for (const std::int64_t j : micro_batches) {
    const Tensor tokens = ids_tensor(random_ids(concat("tokens", j), kTokens, c.vocab_size));
    const Tensor targets = ids_tensor(random_ids(concat("targets", j), kTokens, c.vocab_size));
    const ForwardContext context{.batch = kBatch,
                                 .seq_len = kSeqLen,
                                 .is_training = true,
                                 .seed = 5,
                                 .step = 1,
                                 .micro_batch = j};
    step.backward(tape, model.losses(tokens, targets, 1.0 / kTokens, 1, context).total);
  }
  step.finish();
  return values_of(store.gradient());
}

}  // namespace

TEST_CASE("bf16 gradients of several micro-batches are sums that are rounded once in each") {
  const PoisonGuard poison;
  const ModelConfig c = config();
  const std::vector<double> got = gradients_of(c, DType::bf16, {0, 1, 2, 3});
  // In double, with the error that rounding after each micro-batch allows.
  std::vector<double> sums(got.size(), 0), bounds(got.size(), 0);
  for (const std::int64_t j : {0, 1, 2, 3}) {
    const std::vector<double> terms = gradients_of(c, DType::f32, {j});
    const double of_sums = unit_roundoff(DType::f32) * std::sqrt(kTokens) * largest(terms);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] += terms[i];
      bounds[i] += unit_roundoff(DType::bf16) * std::abs(sums[i]) + 4 * of_sums;
    }
  }
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    worst = std::max(worst, got[i] == sums[i] ? 0 : std::abs(got[i] - sums[i]) / bounds[i]);
  CHECK(worst <= 1.01);  // the bounds' own roundings
  CHECK(worst > 0.3);    // it is rounded
}

TEST_CASE("the bf16 gradient of one micro-batch is the f32 one, rounded") {
  const ModelConfig c = config();
  const std::vector<double> got = gradients_of(c, DType::bf16, {0});
  const std::vector<double> wanted = gradients_of(c, DType::f32, {0});
  const Shape shape{static_cast<std::int64_t>(wanted.size())};
  CHECK(got == values_of(tensor_of(wanted, shape, DType::bf16)));
}
