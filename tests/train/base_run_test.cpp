// Runs on a base: parameters that are not trained, and modules that a program registers.
#include <doctest/doctest.h>

#include "core/system/folder.h"
#include "tests/support/compare.h"
#include "tests/support/layer_kinds.h"
#include "tests/support/ranks.h"
#include "tests/support/state_bytes.h"
#include "tests/support/text.h"
#include "tests/train/small_run.h"
#include "train/base_digest.h"
#include "train/checkpoint/checkpoint_store.h"
#include "train/config/run_paths.h"
#include "train/load_model.h"
#include "train/open_run.h"
#include "train/replicas.h"
#include "train/report/metrics_file.h"
#include "train/trainer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

/// A base run, and a configuration that trains adapters on it.
struct Adapted : SmallRun {
  Adapted() {
    register_test_kinds();
    config.train.steps = 20;
    config.checkpoint.every = 10;
    base = named("base");
    adapters = named("adapters");
    adapters.model.mlp = {.kind = "test_adapters", .settings = {}};
    adapters.model.train_only = "lora";
    adapters.train.init_from = base.run.folder();
  }

  Config base, adapters;
};

std::string base_bytes(TrainableModel& model) {
  struct Base {
    TrainableModel& model;
    void visit_state(StateVisitor& visitor) { model.visit_base(visitor); }
  } holder{model};
  return state_of(holder);
}

Checkpoint newest(const Config& config) {
  return CheckpointStore({.folder = RunPaths(config.run.folder()).checkpoints_path()},
                         [](const std::string&) {})
      .newest_intact()
      .value();
}

// The mean of the first or last three training losses.
double mean_loss(const Config& config, bool is_first) {
  double sum = 0;
  read_metrics(
      RunPaths(config.run.folder()).metrics_path(),
      [&](const Report& report) {
        const auto* const step = std::get_if<StepReport>(&report);
        if (step && (is_first ? step->step <= 3 : step->step > config.train.steps - 3))
          sum += step->loss / 3;
      },
      [](const std::string& line) { FAIL(line); });
  return sum;
}

}  // namespace

TEST_CASE("adapters train on a base that stays; checkpoints hold them alone and name the base") {
  for (const DType precision : {DType::f32, DType::bf16}) {
    Adapted run;
    run.base.train.precision = run.adapters.train.precision = precision;
    run.base.train.steps = 4;
    REQUIRE(open_run(run.base)->train() == 0);
    REQUIRE(open_run(run.adapters)->train() == 0);
    CHECK(mean_loss(run.adapters, false) < mean_loss(run.adapters, true));

    const Checkpoint checkpoint = newest(run.adapters);
    std::int64_t weights = 0;
    for (const ManifestShard& shard : checkpoint.manifest().shards)
      for (const ManifestTensor& tensor : shard.tensors) {
        CHECK(contains(tensor.name, ".lora."));
        weights += !tensor.name.starts_with("optimizer.");
      }
    CHECK(weights == 2 * 3);
    LoadedModel loaded = load_model(run.adapters.run.folder());
    LoadedModel base = load_model(run.base.run.folder());
    const VisitState visit = [&](StateVisitor& v) { loaded.trainable->visit_base(v); };
    CHECK(checkpoint.manifest().base_digest == base_digest(visit));
    // The base is the trained one, as ops read it.
    for (const Parameter* frozen : loaded.store().frozen())
      for (const Parameter* trained : base.store().parameters())
        if (trained->name() == frozen->name())
          check_same_bits(frozen->name(), trained->value(), frozen->value());
  }
}

TEST_CASE("a run on a base resumes with the bits of one that never stopped") {
  Adapted run;
  run.base.train.steps = 4;
  REQUIRE(open_run(run.base)->train() == 0);
  Config whole = run.adapters;
  whole.run.name = "whole";
  REQUIRE(open_run(whole)->train() == 0);
  REQUIRE(open_run(run.adapters)->train() == 0);
  remove_folder(run.adapters.run.folder() + "/checkpoints/step-00000020");
  REQUIRE(open_run(run.adapters)->train() == 0);
  const auto shard = [](const Config& config) {
    return read_file(config.run.folder() + "/checkpoints/step-00000020/shard-00000.bin", 1 << 24);
  };
  CHECK(shard(run.adapters) == shard(whole));
}

TEST_CASE("a base that is missing or another one is an error that says so") {
  Adapted run;
  run.base.train.steps = 4;
  run.base.schedule.kind = ScheduleKind::constant;
  REQUIRE(open_run(run.base)->train() == 0);
  REQUIRE(open_run(run.adapters)->train() == 0);
  const std::string folder = run.adapters.run.folder();
  remove_folder(folder + "/checkpoints/step-00000020");

  run.base.train.steps = 8;  // its newest checkpoint is another base from here on
  REQUIRE(open_run(run.base)->train() == 0);
  for (const std::string& another :
       {message_of([&] { load_model(folder); }), message_of([&] { open_run(run.adapters); })}) {
    CHECK(contains(another, "step-00000010: its base must have the digest "));
    CHECK(contains(another, " from " + run.base.run.folder()));
    CHECK(contains(another, "restore the base that it was trained on"));
  }

  remove_folder(run.base.run.folder());
  for (const std::string& missing :
       {message_of([&] { load_model(folder); }), message_of([&] { open_run(run.adapters); })})
    CHECK(missing == "train.init_from: the base that is not trained must be there; " +
                         run.base.run.folder() +
                         ": must be the folder of a run, or of a checkpoint in one");
}

TEST_CASE("the base may be random weights, drawn again from the seed") {
  Adapted run;
  run.adapters.train.init_from = "";
  REQUIRE(open_run(run.adapters)->train() == 0);
  LoadedModel loaded = load_model(run.adapters.run.folder());
  TrainableModel fresh(run.adapters);
  CHECK(base_bytes(*loaded.trainable) == base_bytes(fresh));
}

TEST_CASE("any part of the product's own model can be trained alone") {
  Adapted run;
  run.base.train.steps = 4;
  REQUIRE(open_run(run.base)->train() == 0);
  Config routers = run.named("routers");
  routers.model.train_only = ".gate.";
  routers.train.init_from = run.base.run.folder();
  routers.train.steps = 6;
  REQUIRE(open_run(routers)->train() == 0);
  CHECK(newest(routers).manifest().base_digest);
  LoadedModel loaded = load_model(routers.run.folder());
  CHECK(loaded.step == 6);
}

TEST_CASE("ranks train on a base alike, with and without ZeRO, and notice a flipped bit in it") {
  Adapted run;
  run.adapters.train.init_from = "";
  run.adapters.train.micro_batch = 1;
  run.adapters.parallel.bucket_mb = 1;
  const TrainingData data = TrainingData::open(run.adapters.data);
  for (const DType precision : {DType::f32, DType::bf16}) {
    std::string weights[2];
    for (const bool zero : {false, true})
      on_ranks(2, [&](Communicator& ranks, RendezvousStore&) {
        Config config = run.adapters;
        config.train.precision = precision;
        config.parallel.zero = zero;
        Trainer trainer(config, data, ranks);
        for (int i = 0; i < 3; ++i) trainer.step();
        const auto check = [&] {
          check_replicas(
              ranks, [&](StateVisitor& visitor) { trainer.visit_replicated(visitor); },
              [&](StateVisitor& visitor) { trainer.visit_replicated_parts(visitor); });
        };
        check();
        const Tensor& compute = trainer.store().compute();
        if (ranks.rank() == 0)
          weights[zero] = {static_cast<const char*>(compute.data()),
                           static_cast<std::size_t>(compute.bytes())};
        const Parameter& frozen = *trainer.store().frozen()[2];
        if (ranks.rank() == 1) static_cast<std::uint8_t*>(frozen.value().data())[1] ^= 0x10;
        CHECK_THROWS_WITH_AS(check(), doctest::Contains(frozen.parts().front().name.c_str()),
                             SystemError);
      });
    CHECK(weights[0] == weights[1]);
  }
}
