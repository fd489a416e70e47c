#include "train/trainer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "core/memory.h"
#include "kernels/threads.h"
#include "tests/support/state_bytes.h"
#include "tests/train/small_run.h"
#include "train/validate.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Setting : SmallRun {
  TrainingData data = TrainingData::open(config.data);
};

// A configuration in which every kind of state is in use.
Config with_all_state(Config config, DType precision) {
  config.train.precision = precision;
  config.model.router.score = RouterScore::sigmoid;
  config.model.router.selection_bias_rate = 0.01;
  config.model.router.jitter = 0.01;
  config.model.num_shared_experts = 1;
  config.model.attention = small_attention_mixture(true);
  return config;
}

std::string bytes_of(const Tensor& tensor) {
  const char* data = static_cast<const char*>(tensor.data());
  return {data, data + tensor.bytes()};
}

void train(Trainer& trainer, std::int64_t until) {
  while (trainer.steps_done() < until) trainer.step();
}

}  // namespace

TEST_CASE("training is the same with one, two and three threads, bit for bit") {
  Setting setting;
  Config rounded = with_all_state(setting.config, DType::bf16);
  rounded.train.grad_dtype = DType::bf16;
  for (const Config& config : {with_all_state(setting.config, DType::f32),
                               with_all_state(setting.config, DType::bf16), rounded}) {
    std::string first;
    for (const int threads : {1, 2, 2, 3}) {
      kernels::cpu::set_num_threads(threads);
      Trainer trainer(config, setting.data);
      train(trainer, 6);
      const std::string state = state_of(trainer);
      if (first.empty()) first = state;
      CHECK(state == first);
    }
  }
  kernels::cpu::set_num_threads(2);
}

// At ten times this learning rate, rounding alone sends a few tokens to other experts and the
// curves part.
TEST_CASE("losses with bf16 gradients stay within 0.1 % of those with f32 gradients") {
  Setting setting;
  Config config = setting.config;
  config.train.precision = DType::bf16;
  config.train.steps = 60;
  config.train.global_batch = 16;  // eight micro-batches, which each add to the gradients
  config.optim.lr = 1e-3;
  std::vector<StepReport> curves[2];
  for (const DType grad_dtype : {DType::f32, DType::bf16}) {
    config.train.grad_dtype = grad_dtype;
    Trainer trainer(config, setting.data);
    CHECK(trainer.store().gradient().dtype() == grad_dtype);
    for (int i = 0; i < 60; ++i) curves[grad_dtype == DType::bf16].push_back(trainer.step());
  }
  double worst = 0, worst_norm = 0;
  for (int i = 0; i < 60; ++i) {
    const StepReport &wanted = curves[0][i], &got = curves[1][i];
    worst = std::max(worst, std::abs(got.loss / wanted.loss - 1));
    worst_norm = std::max(worst_norm, std::abs(got.grad_norm / wanted.grad_norm - 1));
  }
  MESSAGE("losses differ by at most ", worst, ", to ", curves[0].back().loss, "; norms by ",
          worst_norm);
  CHECK(worst > 0);
  CHECK(worst <= 0.001);
  CHECK(worst_norm <= 0.05);
  CHECK(curves[0].back().loss < 0.8 * curves[0].front().loss);
}

TEST_CASE("micro-batches add up to the global batch") {
  Setting setting;
  Config config = setting.config;
  config.train.precision = DType::f64;
  config.model.router.balance_loss = 0;  // its statistics are those of a micro-batch
  std::vector<double> first;
  for (const std::int64_t micro_batch : {4, 2, 1}) {
    config.train.micro_batch = micro_batch;
    Trainer trainer(config, setting.data);
    train(trainer, 3);
    const auto weights = trainer.store().compute().to_vector<double>();
    if (first.empty()) first = weights;
    double worst = 0;
    for (std::size_t i = 0; i < weights.size(); ++i)
      worst = std::max(worst, std::abs(weights[i] - first[i]));
    CAPTURE(micro_batch);
    CHECK(worst <= 1e-9);
  }
}

TEST_CASE("a step that is not finite changes no weight and is reported") {
  Setting setting;
  Config config = with_all_state(setting.config, DType::f32);
  config.train.steps = 200;
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Trainer trainer(config, setting.data);
    int skipped = 0;
    train(trainer, 2);
    // One bad weight, in turn in each parameter, as a flipped bit may leave it.
    for (const Parameter* parameter : trainer.store().parameters()) {
      float* element = parameter->master().data_as<float>();
      const float kept = *element;
      *element = bad;
      const std::string before = bytes_of(trainer.store().compute());
      const StepReport report = trainer.step();
      CAPTURE(parameter->name());
      // A bad element of one expert may stay unseen until a token reaches it.
      if (!report.is_skipped) {
        *element = kept;
        continue;
      }
      ++skipped;
      CHECK(trainer.nonfinite_in_a_row() >= 1);
      CHECK(bytes_of(trainer.store().compute()) == before);
      *element = kept;
    }
    CHECK(skipped >= 16);
    const StepReport report = trainer.step();
    CHECK_FALSE(report.is_skipped);
    CHECK(trainer.nonfinite_in_a_row() == 0);
  }
}

TEST_CASE("validation counts every token once and gives bits per byte") {
  Setting setting;
  Trainer trainer(setting.config, setting.data);
  const ValidationReport report =
      validate(setting.config, trainer,
               open_validation_sets(setting.config.data, setting.data.token_space()));
  CHECK(report.tokens == setting.data.num_tokens(Split::validation) - 1);
  // A fresh model is close to the uniform distribution over 257 tokens: 8 bits per byte.
  CHECK(report.bits_per_byte == doctest::Approx(8.0).epsilon(0.02));
  CHECK(report.loss == doctest::Approx(std::log(257)).epsilon(0.02));
}

TEST_CASE("a token set with a larger vocabulary than the model is refused") {
  Setting setting;
  setting.config.model.vocab_size = 256;
  CHECK_THROWS_AS(Trainer(setting.config, setting.data), UsageError);
}

TEST_CASE("train.recompute changes the memory of a step and none of its state") {
  Setting none, block;
  block.config.train.recompute = Recompute::block;
  const auto trained = [](Setting& setting, std::int64_t& peak_bytes) {
    Trainer trainer(setting.config, setting.data);
    reset_peak_memory();
    train(trainer, 2);
    peak_bytes = memory_use(Category::activations).peak_bytes;
    return state_of(trainer);
  };
  std::int64_t none_bytes = 0, block_bytes = 0;
  CHECK(trained(none, none_bytes) == trained(block, block_bytes));
  CHECK(block_bytes < none_bytes);
}
