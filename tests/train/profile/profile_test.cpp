#include "train/profile/profile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/device.h"
#include "tests/support/text.h"
#include "tests/train/small_run.h"
#include "train/data/training_data.h"
#include "train/profile/communication.h"
#include "train/profile/measure.h"
#include "train/profile/profile_json.h"
#include "train/profile/profile_page.h"
#include "train/profile/profile_text.h"
#include "train/profile/routing_cost.h"
#include "train/trainer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr Roofline kRoofline{.flops_per_s = 1e11, .bytes_per_s = 1e10};

// Profiles a small run whose observer may do harm.
struct Profiled {
  SmallRun small;
  TrainingData training;
  Trainer trainer;

  Profiled() : training(TrainingData::open(small.config.data)), trainer(small.config, training) {}

  ProfiledRun run(const std::function<void()>& before_step = nullptr) {
    ProfiledRun run = profile_steps({.steps = 2, .warmup = 2}, kRoofline, [&] {
      if (before_step) before_step();
      trainer.step();
    });
    analyze(run.recording, run.profile);
    advise(run.profile);
    return run;
  }
};

const OpGroup* find_op(const Profile& profile, const std::string& kernel, Phase phase) {
  for (const OpGroup& op : profile.ops)
    if (op.kernel == kernel && op.phase == phase) return &op;
  return nullptr;
}

}  // namespace

TEST_CASE("a profile names each launch's phase, op, parameter and layer") {
  Profiled profiled;
  const ProfiledRun run = profiled.run();
  const Profile& p = run.profile;
  for (const LaunchSample& launch : run.recording.launches) {
    CAPTURE(launch.name);
    CHECK(launch.place.phase != Phase::none);
    CHECK(launch.end >= launch.begin);
    const bool is_op =
        launch.place.phase == Phase::forward || launch.place.phase == Phase::backward;
    if (is_op && launch.place.layer >= 0) CHECK(launch.place.op != nullptr);
  }
  const OpGroup* const up = find_op(p, "expert_up", Phase::forward);
  REQUIRE(up);
  CHECK(up->op == "moe_mlp");
  CHECK(up->part == "block_sparse_moe.experts.w1_w3");
  // Two layers, two micro-batches.
  CHECK(up->group.launches == 4);
  CHECK(find_op(p, "expert_up", Phase::backward) == nullptr);
  REQUIRE(find_op(p, "expert_down_backward", Phase::backward));
  REQUIRE(find_op(p, "adamw", Phase::optimizer));
  CHECK(p.layers.size() == 2);
  CHECK(p.layers[1].backward_ms > 0);
  CHECK(p.layers[1].experts_ms > 0);
}

TEST_CASE("kernels and gaps add up to the step, and the cost is the plan's") {
  Profiled profiled;
  const ProfiledRun run = profiled.run();
  const Profile& p = run.profile;
  CHECK(p.busy_ms + p.gap_ms == doctest::Approx(p.step_ms).epsilon(0.01));
  // No kernel counts twice, and none lies outside the steps.
  std::vector<Interval> kernels;
  for (const LaunchSample& launch : run.recording.launches)
    kernels.push_back({launch.begin, launch.end});
  const double covered = IntervalUnion(kernels).overlap(run.recording.steps.front().begin,
                                                        run.recording.steps.back().end);
  CHECK(covered / 2 == doctest::Approx(p.busy_ms).epsilon(0.01));
  double parts = 0;
  for (const auto& [name, ms] : parts_of_step(p)) parts += ms;
  CHECK(parts == doctest::Approx(p.step_ms).epsilon(0.01));
}

TEST_CASE("a profile of training holds the plan beside what was measured") {
  const SmallRun small;
  const TrainingData training = TrainingData::open(small.config.data);
  const ProfiledRun whole = profile_training(small.config, training, {.steps = 1, .warmup = 1});
  CHECK(whole.profile.measured.flops == whole.profile.planned.flops);
  CHECK(whole.profile.measured.bytes == whole.profile.planned.bytes);
  // The batch's ids are copied as in the plan, so all but the routing of unequal loads is planned.
  CHECK(static_cast<double>(whole.profile.memory.peak_bytes) ==
        doctest::Approx(static_cast<double>(whole.profile.plan.total_peak_bytes)).epsilon(0.02));
  REQUIRE(whole.profile.routing);
  CHECK(whole.profile.routing->imbalance.size() == 2);
  CHECK(whole.profile.routing->balanced_ms <= whole.profile.routing->experts_ms);
}

TEST_CASE("planted faults are found: a host that sleeps, and a buffer that is never freed") {
  Profiled profiled;
  std::vector<Tensor> forgotten;
  const ProfiledRun run = profiled.run([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    forgotten.push_back(Tensor::empty({std::int64_t{16} << 20}, DType::u8));
    name_new_blocks("forgetful_op", nullptr);
  });
  const Profile& p = run.profile;
  REQUIRE(!p.gaps.empty());
  CHECK(p.gaps.front().ms >= 4.5);
  CHECK(p.gaps.front().is_host_late);
  CHECK(p.host_late_ms >= 4.5);
  const auto is_late = [](const Advice& a) {
    return contains(a.text, "the host works between kernels");
  };
  CHECK(std::any_of(p.advice.begin(), p.advice.end(), is_late));
  REQUIRE(!p.memory.kept.empty());
  CHECK(contains(p.memory.kept.front().owner, "forgetful_op"));
  CHECK(p.memory.kept.front().bytes >= std::int64_t{32} << 20);
}

TEST_CASE("nothing of the profiler is left after the window") {
  Profiled profiled;
  const ProfiledRun run = profiled.run();
  CHECK(current_instrument() == nullptr);
  CHECK(current_place() == Place{});
  CHECK(run.recording.steps.size() == 2);
  CHECK(run.profile.mode == "clock");
  CHECK_THROWS_WITH_AS(
      profile_steps({.steps = 1, .warmup = 1, .mode = ProfileMode::cupti}, kRoofline, [] {}),
      "CUPTI: times kernels on a GPU; this run is on the CPU", UsageError);
  CHECK_THROWS_AS(profile_steps({.steps = 0}, kRoofline, [] {}), UsageError);
  CHECK_THROWS_AS(profile_steps({.warmup = 0}, kRoofline, [] {}), UsageError);
}

TEST_CASE("page, text and JSON of a profile hold its figures, and names are escaped") {
  Profiled profiled;
  Profile p = profiled.run().profile;
  p.run = "<b>\"x\"</b>";
  p.plan.total_peak_bytes = p.memory.peak_bytes;
  p.device_total_bytes = std::int64_t{8} << 30;  // as on a GPU
  p.pool_peak_bytes = std::int64_t{3} << 30;
  const std::string old = profile_json(p);
  CHECK(changes_since(old, "old.json", p).empty());
  Profile slower = p;
  slower.step_ms *= 2;
  slower.memory.peak_bytes *= 2;
  const std::vector<Change> changes = changes_since(old, "old.json", slower);
  REQUIRE(!changes.empty());
  CHECK(changes.front().what == "step");
  CHECK(changes.back().what == "peak memory");
  CHECK_THROWS_WITH_AS(changes_since("{}", "old.json", p),
                       "old.json: must be the profile.json of `smoe profile`", UsageError);

  const std::string page = profile_page(slower, changes, "old.json");
  CHECK(page.size() < 2'000'000);
  CHECK(!contains(page, "<b>\"x\""));
  CHECK(!contains(page, "http"));
  for (const char* text : {"Verdict", "expert_up", "Memory over time", "Changes", "Roofline",
                           "with unused parts</td><td></td><td>3.00 GiB"})
    CHECK(contains(page, text));
  const nlohmann::json json = nlohmann::json::parse(old);
  CHECK(json.at("step").at("ms").get<double>() == doctest::Approx(p.step_ms));
  CHECK(json.at("ops").size() == p.ops.size());
  CHECK(contains(profile_text(slower, changes), "peak memory"));
}

TEST_CASE("a planted fault is found: one expert with all rows") {
  const SmallRun small;
  Config config = small.config;
  config.model.top_k = 1;
  config.model.router.score = RouterScore::sigmoid;
  config.model.router.selection_bias_rate = 1e-6;
  const TrainingData training = TrainingData::open(config.data);
  Trainer trainer(config, training);
  for (Router* router : trainer.model().routers()) {
    const auto num_experts = router->num_experts();
    std::vector<float> bias(num_experts, 0.0F);
    bias[2] = 100;
    router->selection_bias().copy_from(Tensor::from(bias, {num_experts}));
  }
  ProfiledRun run = profile_steps({.steps = 1, .warmup = 1}, kRoofline, [&] { trainer.step(); });
  analyze(run.recording, run.profile);
  const RoutingCost cost = measure_routing_cost(config, trainer, run.profile.layers);
  REQUIRE(cost.imbalance.size() == 2);
  for (const double imbalance : cost.imbalance) CHECK(imbalance == 4);  // of four experts
  CHECK(cost.balanced_ms <= cost.experts_ms);
  run.profile.routing = cost;
  const auto is_unequal = [](const Advice& a) {
    return contains(a.text, "expert loads are unequal, in the worst layer 4.0 times the mean");
  };
  const auto advised_ms = [&](const RoutingCost& routing) {
    Profile p = run.profile;
    p.routing = routing;
    advise(p);
    const auto found = std::find_if(p.advice.begin(), p.advice.end(), is_unequal);
    return found == p.advice.end() ? -1 : found->ms;
  };
  CHECK(advised_ms(cost) >= 0);  // also where it costs no time
  CHECK(advised_ms({.imbalance = {1.5, 4}, .experts_ms = 3, .balanced_ms = 1}) == 2);
  CHECK(advised_ms({.imbalance = {1.5, 2.0}, .experts_ms = 1, .balanced_ms = 1}) == -1);
  CHECK(contains(profile_page(run.profile, {}, ""), "<td>4.00</td>"));
}
