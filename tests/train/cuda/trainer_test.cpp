#include "train/trainer.h"

#include <doctest/doctest.h>

#include "tests/support/cuda.h"
#include "tests/support/state_bytes.h"
#include "tests/train/small_run.h"
#include "train/checkpoint/checkpoint.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Setting : SmallRun {
  TrainingData data = TrainingData::open(config.data);
};

std::vector<double> losses_of(Trainer& trainer, std::int64_t until) {
  std::vector<double> losses;
  while (trainer.steps_done() < until) losses.push_back(trainer.step().loss);
  return losses;
}

}  // namespace

// At the learning rate of configs/tiny.yaml, after some 30 steps rounding alone sends a few tokens
// to other experts and the curves part: f32 and f64 on the CPU do so too. A tenth of it keeps them
// together.
TEST_CASE("100 steps of configs/tiny.yaml in f32 follow the CPU's to 1e-3") {
  const Setting setting;
  const Config config =
      load_config("configs/tiny.yaml", {"data.path=" + setting.config.data.path, "optim.lr=3e-4",
                                        "train.seq_len=64", "model.vocab_size=257"});
  Trainer on_cpu(config, setting.data);
  const std::vector<double> wanted = losses_of(on_cpu, 100);
  const StreamGuard guard(gpu_stream());
  Trainer on_gpu(config, setting.data);
  const std::vector<double> got = losses_of(on_gpu, 100);
  for (std::size_t step = 0; step < wanted.size(); ++step) {
    CAPTURE(step);
    CHECK(got[step] == doctest::Approx(wanted[step]).epsilon(1e-3));
  }
}

TEST_CASE("losses with bf16 gradients on the GPU stay within 0.1 % of those with f32 gradients") {
  const Setting setting;
  const StreamGuard guard(gpu_stream());
  Config config = setting.config;
  config.train.precision = DType::bf16;
  config.train.steps = 60;
  config.train.global_batch = 16;
  config.optim.lr = 1e-3;
  config.model.head_dim = 16;
  std::vector<double> losses[2];
  for (const DType grad_dtype : {DType::f32, DType::bf16}) {
    config.train.grad_dtype = grad_dtype;
    Trainer trainer(config, setting.data);
    losses[grad_dtype == DType::bf16] = losses_of(trainer, 60);
  }
  for (std::size_t step = 0; step < 60; ++step) {
    CAPTURE(step);
    CHECK(losses[1][step] == doctest::Approx(losses[0][step]).epsilon(0.001));
  }
}

TEST_CASE("two runs on the GPU, one of them resumed, end with the same bits") {
  const Setting setting;
  const StreamGuard guard(gpu_stream());
  for (const auto& [precision, grad_dtype] :
       {std::pair(DType::f32, DType::f32), {DType::bf16, DType::f32}, {DType::bf16, DType::bf16}}) {
    Config config = setting.config;
    config.train.precision = precision;
    config.train.grad_dtype = grad_dtype;
    config.model.head_dim = 16;
    config.model.router.score = RouterScore::sigmoid;
    config.model.router.selection_bias_rate = 0.01;
    config.model.router.jitter = 0.01;
    config.model.num_shared_experts = 1;
    Trainer undisturbed(config, setting.data);
    losses_of(undisturbed, 5);
    const std::string path =
        concat(setting.folder.path(), "/", name_of(precision), "-", name_of(grad_dtype));
    write_checkpoint(path, {.step = 5}, [&](StateVisitor& v) { undisturbed.visit_state(v); });
    losses_of(undisturbed, 12);
    const std::string wanted = state_of(undisturbed);

    const PoisonGuard poison;
    Trainer again(config, setting.data);
    losses_of(again, 12);
    CHECK(state_of(again) == wanted);

    Trainer resumed(config, setting.data);
    losses_of(resumed, 2);
    Checkpoint(path).load([&](StateVisitor& v) { resumed.visit_state(v); });
    resumed.state_loaded();
    losses_of(resumed, 12);
    CHECK(state_of(resumed) == wanted);
  }
}
