// Several ranks, each a thread of this process, against one.
#include "train/data_parallel.h"

#include <doctest/doctest.h>

#include <cmath>
#include <mutex>

#include "core/system/folder.h"
#include "tests/support/ranks.h"
#include "tests/support/state_bytes.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/small_run.h"
#include "train/checkpoint/checkpoint.h"
#include "train/replicas.h"
#include "train/step_reporter.h"
#include "train/validate.h"

using namespace smoe;
using namespace smoe::test;

namespace {

struct Setting : SmallRun {
  Setting() {
    config.train.global_batch = 8;
    config.train.micro_batch = 1;
    config.parallel.bucket_mb = 1;
    config.model.router.selection_bias_rate = 0.01;
    config.model.router.score = RouterScore::sigmoid;
    config.model.router.jitter = 0.1;
  }
};

std::string weights_of(const Trainer& trainer) {
  const Tensor& weights = trainer.store().compute();
  return {static_cast<const char*>(weights.data()), static_cast<std::size_t>(weights.bytes())};
}

/// Adds to `state` the ranges that another rank holds, which are zero in it.
void join_states(std::string& state, const std::string& other) {
  REQUIRE(state.size() == other.size());
  for (std::size_t i = 0; i < state.size(); ++i) state[i] = static_cast<char>(state[i] | other[i]);
}

struct Curve {
  std::vector<StepReport> steps;
  std::string state;
  double validation_loss = 0;
};

/// What a rank of `world_size` sees of `steps` steps.
Curve train_as(const Config& config, Communicator& ranks, std::int64_t steps) {
  const TrainingData data = TrainingData::open(config.data);
  Trainer trainer(config, data, ranks);
  StepReporter reporter(config, trainer, ranks.world_size());
  Curve curve;
  for (std::int64_t i = 0; i < steps; ++i) {
    curve.steps.push_back(trainer.step());
    reporter.add_time(curve.steps.back().step_s);
    reporter.complete(curve.steps.back());
  }
  curve.state = state_of(trainer);
  curve.validation_loss =
      validate(config, trainer, open_validation_sets(config.data, data.token_space())).loss;
  return curve;
}

/// The curves of all ranks, which must not differ in anything but memory and time.
Curve train_on(int world_size, const Config& config, std::int64_t steps) {
  if (world_size == 1) return train_as(config, single_communicator(), steps);
  std::vector<Curve> curves(world_size);
  on_ranks(world_size, [&](Communicator& ranks, RendezvousStore&) {
    curves[ranks.rank()] = train_as(config, ranks, steps);
  });
  for (const Curve& curve : curves) {
    if (config.parallel.zero)
      join_states(curves[0].state, curve.state);
    else
      CHECK(curve.state == curves[0].state);
    CHECK(curve.validation_loss == curves[0].validation_loss);
    for (std::int64_t i = 0; i < steps; ++i) {
      CHECK(curve.steps[i].loss == curves[0].steps[i].loss);
      CHECK(curve.steps[i].grad_norm == curves[0].steps[i].grad_norm);
      CHECK(curve.steps[i].imbalance == curves[0].steps[i].imbalance);
    }
  }
  return curves[0];
}

double difference(double a, double b) {
  return std::abs(a - b) / std::abs(a);
}

}  // namespace

TEST_CASE("two and four ranks train what one trains: f64 to 1e-12, the first step in f32 to 1e-6") {
  Setting setting;
  for (const DType precision : {DType::f64, DType::f32}) {
    setting.config.train.precision = precision;
    const std::int64_t steps = precision == DType::f64 ? 8 : 1;
    const double tolerance = precision == DType::f64 ? 1e-12 : 1e-6;
    const Curve one = train_on(1, setting.config, steps);
    for (const int world_size : {2, 4}) {
      CAPTURE(world_size);
      const Curve many = train_on(world_size, setting.config, steps);
      for (std::int64_t i = 0; i < steps; ++i) {
        const StepReport &a = one.steps[i], &b = many.steps[i];
        CAPTURE(i);
        CHECK(difference(a.loss, b.loss) <= tolerance);
        CHECK(difference(a.balance_loss, b.balance_loss) <= tolerance);
        CHECK(difference(a.grad_norm, b.grad_norm) <= tolerance);
        CHECK(a.tokens == b.tokens);
        CHECK(a.imbalance == b.imbalance);
        REQUIRE(a.layers.size() == b.layers.size());
        for (std::size_t layer = 0; layer < a.layers.size(); ++layer)
          CHECK(a.layers[layer].expert_rows == b.layers[layer].expert_rows);
      }
      CHECK(difference(one.validation_loss, many.validation_loss) <= tolerance * 10);
    }
  }
}

TEST_CASE("bf16 gradients of two and four ranks are rounded once more, after their sum") {
  Setting setting;
  setting.config.train.precision = DType::bf16;
  setting.config.train.grad_dtype = DType::bf16;
  const Curve one = train_on(1, setting.config, 4);
  for (const int world_size : {2, 4}) {
    const Curve many = train_on(world_size, setting.config, 4);
    CHECK(many.steps[0].loss == one.steps[0].loss);
    for (int i = 0; i < 4; ++i) {
      CHECK(difference(one.steps[i].loss, many.steps[i].loss) <= 1e-3);
      CHECK(difference(one.steps[i].grad_norm, many.steps[i].grad_norm) <= (i == 0 ? 1e-3 : 0.02));
    }
  }
}

TEST_CASE("losses of the first step do not even differ in the last bit") {
  const Setting setting;
  const Curve one = train_on(1, setting.config, 1), four = train_on(4, setting.config, 1);
  CHECK(one.steps[0].loss == four.steps[0].loss);
  CHECK(one.steps[0].balance_loss == four.steps[0].balance_loss);
}

TEST_CASE(
    "sharding the optimizer state changes no bit, nor does the size of buckets change weights") {
  Setting setting;
  Config& config = setting.config;
  config.model.d_model = 64;  // some MiB of parameters: several buckets
  config.model.d_expert = 200;
  config.model.num_experts = 6;
  config.optim.clip_norm = 0;
  for (const auto& [precision, grad_dtype] :
       {std::pair(DType::f32, DType::f32), {DType::bf16, DType::f32}, {DType::bf16, DType::bf16}}) {
    config.train.precision = precision;
    config.train.grad_dtype = grad_dtype;
    config.parallel = {.zero = false, .bucket_mb = 1};
    const Curve whole = train_on(2, config, 3);
    config.parallel.zero = true;
    CHECK(train_on(2, config, 3).state == whole.state);
    config.parallel.bucket_mb = 64;
    CHECK(train_on(2, config, 3).state == whole.state);
  }
  config.optim.clip_norm = 0.1;
  config.parallel = {.zero = false, .bucket_mb = 1};
  const Curve whole = train_on(2, config, 3);
  config.parallel.zero = true;
  CHECK(train_on(2, config, 3).state == whole.state);
}

TEST_CASE("a sharded rank allocates the remainders and moments of its own elements only") {
  Setting setting;
  setting.config.train.precision = DType::bf16;
  for (const DType moments : {DType::f32, DType::bf16})
    on_ranks(2, [&](Communicator& ranks, RendezvousStore&) {
      Config config = setting.config;
      config.parallel.zero = true;
      config.optim.moments = moments;
      const TrainingData data = TrainingData::open(config.data);
      const Trainer trainer(config, data, ranks);
      const ParameterStore& store = trainer.store();
      CHECK(store.num_own() <= store.compute().numel() / 2 + 64);
      CHECK(store.remainders().numel() == store.num_own());
    });
}

TEST_CASE("a checkpoint of any ranks and ZeRO stage resumes in any other, bit for bit") {
  Setting setting;
  const TemporaryFolder folder;
  for (const DType precision : {DType::f32, DType::bf16}) {
    setting.config.train.precision = precision;
    std::string at_two;  // the state after two steps and, of two ranks, after four
    std::string at_four;
    for (const bool saves_sharded : {false, true}) {
      const std::string path =
          folder / concat(name_of(precision), saves_sharded ? "-sharded" : "-whole");
      if (saves_sharded) make_new_folder(path);
      on_ranks(2, [&](Communicator& ranks, RendezvousStore&) {
        Config config = setting.config;
        config.parallel.zero = saves_sharded;
        const TrainingData data = TrainingData::open(config.data);
        Trainer trainer(config, data, ranks);
        for (int i = 0; i < 2; ++i) trainer.step();
        const VisitState visit = [&](StateVisitor& visitor) { trainer.visit_state(visitor); };
        if (saves_sharded)
          write_checkpoint(path, {.step = 2}, visit,
                           {.index = ranks.rank(), .count = 2, .await_others = [&](const auto&) {
                              ranks.barrier()->wait();
                            }});
        else if (ranks.rank() == 0)
          write_checkpoint(path, {.step = 2}, visit);
      });
      for (const int world_size : {1, 2, 4})
        for (const bool loads_sharded : {false, true}) {
          CAPTURE(world_size);
          std::vector<std::string> loaded(world_size), trained(world_size);
          on_ranks(world_size, [&](Communicator& ranks, RendezvousStore&) {
            Config config = setting.config;
            config.parallel.zero = loads_sharded;
            const TrainingData data = TrainingData::open(config.data);
            Trainer trainer(config, data, ranks);
            Checkpoint(path).load([&](StateVisitor& visitor) { trainer.visit_state(visitor); });
            trainer.state_loaded();
            loaded[ranks.rank()] = state_of(trainer);
            for (int i = 0; i < 2; ++i) trainer.step();
            trained[ranks.rank()] = state_of(trainer);
          });
          for (int rank = 1; rank < world_size; ++rank) {
            join_states(loaded[0], loaded[rank]);
            join_states(trained[0], trained[rank]);
          }
          if (at_two.empty()) at_two = loaded[0];
          CHECK(loaded[0] == at_two);
          if (world_size != 2) continue;
          if (at_four.empty()) at_four = trained[0];
          CHECK(trained[0] == at_four);
        }
    }
  }
}

TEST_CASE("a loss that is not finite on one rank lets all skip the step, and all go on alike") {
  const Setting setting;
  std::vector<std::string> states(2);
  on_ranks(2, [&](Communicator& ranks, RendezvousStore&) {
    const TrainingData data = TrainingData::open(setting.config.data);
    Trainer trainer(setting.config, data, ranks);
    trainer.step();
    float* const weight = trainer.store().compute().data_as<float>();
    const float good = *weight;
    const std::string before = weights_of(trainer);
    if (ranks.rank() == 1) *weight = std::nanf("");
    CHECK(trainer.step().is_skipped);
    CHECK(trainer.nonfinite_in_a_row() == 1);
    *weight = good;
    CHECK(weights_of(trainer) == before);
    CHECK_FALSE(trainer.step().is_skipped);
    states[ranks.rank()] = state_of(trainer);
  });
  CHECK(states[0] == states[1]);
}

TEST_CASE("a flipped bit is found, with rank and tensor") {
  const Setting setting;
  for (const int world_size : {2, 3})
    on_ranks(world_size, [&](Communicator& ranks, RendezvousStore&) {
      Config config = setting.config;
      config.train.global_batch = 6;
      config.parallel.zero = world_size == 3;
      const TrainingData data = TrainingData::open(config.data);
      Trainer trainer(config, data, ranks);
      trainer.step();
      const auto check = [&] {
        check_replicas(
            ranks, [&](StateVisitor& visitor) { trainer.visit_replicated(visitor); },
            [&](StateVisitor& visitor) { trainer.visit_replicated_parts(visitor); });
      };
      check();
      const Parameter& weight = *trainer.store().parameters()[5];
      if (ranks.rank() == 1) static_cast<std::uint8_t*>(weight.master().data())[1] ^= 0x10;
      const std::string who = world_size == 2 ? "ranks 0 and 1 differ, and one of them is wrong"
                                              : "rank 1 differs from the other ranks";
      const std::string message =
          "replicas: " + weight.parts().front().name + ": must be the same on all ranks; " + who;
      CHECK_THROWS_WITH_AS(check(), doctest::Contains(message.c_str()), SystemError);
    });
}

TEST_CASE("a batch that does not divide among the ranks names the nearest that do") {
  Setting setting;
  setting.config.train.micro_batch = 2;
  setting.config.train.global_batch = 12;
  on_ranks(4, [&](Communicator& ranks, RendezvousStore&) {
    const TrainingData own = TrainingData::open(setting.config.data);
    CHECK_THROWS_WITH_AS(Trainer(setting.config, own, ranks),
                         "train.global_batch: must be a multiple of train.micro_batch=2 times the "
                         "number of ranks, 4, nearest 8 or 16, or train.micro_batch=1; got 12",
                         UsageError);
  });
}
