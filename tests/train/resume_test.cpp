// A checkpoint contains everything that a later step reads: a trainer filled with garbage that
// loads the checkpoint of any step ends bit-identical to an undisturbed run.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "core/memory.h"
#include "kernels/elementwise.h"
#include "tests/support/counts.h"
#include "tests/support/state_bytes.h"
#include "tests/train/small_run.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/state_copy.h"
#include "train/trainer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr std::int64_t kSteps = 20;
constexpr std::int64_t kStride = kIsSanitized ? 7 : 1;  // between the steps to resume from

void train(Trainer& trainer, std::int64_t until) {
  while (trainer.steps_done() < until) trainer.step();
}

// Fills everything that a resumed trainer must not use: weights, gradient buffers, expert loads.
void fill_with_garbage(Trainer& trainer) {
  train(trainer, 2);
  const auto spoil = [](const Tensor& tensor) {
    kernels::fill({}, {tensor.data(), tensor.dtype(), tensor.numel(),
                       std::numeric_limits<double>::quiet_NaN()});
  };
  for (const Parameter* parameter : trainer.store().parameters()) {
    spoil(parameter->gradient());
    spoil(parameter->value());
  }
  const Tensor& totals = trainer.router_stats().totals();
  std::memset(totals.data(), 0x5A, totals.bytes());
}

// Trains to the end, saving after every step, and resumes from each checkpoint in another trainer.
void check_every_resume(const Config& config, const std::string& folder) {
  const TrainingData data = TrainingData::open(config.data);
  Trainer undisturbed(config, data);
  const auto path = [&](std::int64_t step) { return concat(folder, "/step-", step); };
  for (std::int64_t step = 1; step <= kSteps; ++step) {
    train(undisturbed, step);
    write_checkpoint(path(step), {.step = step},
                     [&](StateVisitor& v) { undisturbed.visit_state(v); });
  }
  train(undisturbed, kSteps + 1);
  const std::string expected = state_of(undisturbed);
  Config other = config;
  other.run.seed += 1;
  for (std::int64_t step = 1; step <= kSteps; step += kStride) {
    CAPTURE(step);
    set_poison_new_memory(true);
    Trainer resumed(config, data);
    fill_with_garbage(resumed);
    Checkpoint(path(step)).load([&](StateVisitor& v) { resumed.visit_state(v); });
    resumed.state_loaded();
    CHECK(resumed.steps_done() == step);
    train(resumed, kSteps + 1);
    set_poison_new_memory(false);
    CHECK((state_of(resumed) == expected));
  }
}

struct Setting : SmallRun {
  // Every kind of state is in use.
  Setting() : SmallRun(fast_parent()) {
    config.train.steps = kSteps + 1;
    config.model.router.score = RouterScore::sigmoid;
    config.model.router.selection_bias_rate = 0.01;
    config.model.router.jitter = 0.01;
    config.model.num_shared_experts = 1;
    config.model.attention = small_attention_mixture(true);
  }
  void check() const { check_every_resume(config, folder.path()); }
};

}  // namespace

TEST_CASE(
    "a run resumed after any of its first 20 steps ends bit-identical to an undisturbed one") {
  for (const DType precision : {DType::f32, DType::bf16, DType::f64}) {
    const std::string dtype = name_of(precision);
    CAPTURE(dtype);
    Setting setting;
    setting.config.train.precision = precision;
    setting.check();
  }
}

TEST_CASE("so does a run with bf16 gradients") {
  Setting setting;
  setting.config.train.precision = DType::bf16;
  setting.config.train.grad_dtype = DType::bf16;
  setting.check();
}

TEST_CASE("so does a run with recomputation") {
  for (const Recompute recompute : {Recompute::experts, Recompute::block}) {
    Setting setting;
    setting.config.train.recompute = recompute;
    setting.check();
  }
}

TEST_CASE("so does a run on a mixture of token sets") {
  Setting setting;
  DataConfig& data = setting.config.data;
  const std::string first = data.path, second = setting.folder / "second.h5";
  const ByteTokenizer tokenizer;
  TokenSetWriter writer(second, tokenizer);
  writer.begin_document(Split::train);
  for (int i = 0; i < 400; ++i) writer.append(concat(i * i % 97, "; "));
  writer.finish();
  data = {"", {{"words", first, 0.7}, {"numbers", second, 0.3}}, ""};
  setting.check();
}

TEST_CASE("a copy of a trainer's state does not change with the trainer") {
  Setting setting;
  const TrainingData data = TrainingData::open(setting.config.data);
  Trainer trainer(setting.config, data);
  train(trainer, 2);
  const VisitState visit = [&](StateVisitor& v) { trainer.visit_state(v); };
  write_checkpoint(setting.folder / "now", {.step = 2}, visit);
  StateCopy copy;
  copy.take(visit);
  train(trainer, 3);
  write_checkpoint(setting.folder / "later", {.step = 2}, [&](StateVisitor& v) { copy.visit(v); });
  for (const char* file : {"/manifest.json", "/shard-00000.bin"})
    CHECK(read_file(setting.folder / "now" + file, 1 << 24) ==
          read_file(setting.folder / "later" + file, 1 << 24));
}
