// Profiles on a GPU: both modes agree, and planted faults are found. Times are compared within a
// few percent: nothing else may use the GPU meanwhile.
#include "train/profile/profile.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "core/gpu.h"
#include "core/memory.h"
#include "core/memory_log.h"
#include "tests/support/cuda.h"
#include "tests/support/text.h"
#include "tests/train/small_run.h"
#include "train/bench/expert_variant.h"
#include "train/profile/device_tracer.h"
#include "train/profile/measure.h"
#include "train/profile/profile_page.h"
#include "train/profile/routing_cost.h"
#include "train/profile/timing.h"
#include "train/trainer.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// Four layers of the 1.5B model's sizes, so that kernels are about as long as its own.
Config wide_config(Config config) {
  config.model.num_layers = 4;
  config.model.d_model = 1024;
  config.model.num_heads = 8;
  config.model.num_kv_heads = 2;
  config.model.head_dim = 128;
  config.model.d_expert = 3584;
  config.model.num_experts = 8;
  config.model.top_k = 2;
  config.train.precision = DType::bf16;
  config.train.seq_len = 1024;
  config.train.micro_batch = config.train.global_batch = 16;
  config.train.steps = 1000;
  config.optim.lr = 1e-4;
  return config;
}

struct GpuProfile {
  SmallRun small;
  StreamGuard guard{gpu_stream()};
  Config config;
  TrainingData training;
  Trainer trainer;
  Roofline roofline;

  explicit GpuProfile(const std::function<void(Config&)>& change = nullptr)
      : config(changed(wide_config(small.config), change)),
        training(TrainingData::open(config.data)),
        trainer(config, training),
        roofline(measure_roofline(DType::bf16)) {}

  static Config changed(Config config, const std::function<void(Config&)>& change) {
    if (change) change(config);
    return config;
  }

  ProfiledRun run(ProfileMode mode, const std::function<void()>& before_step = nullptr) {
    ProfiledRun run = profile_steps({.steps = 5, .warmup = 6, .mode = mode}, roofline, [&] {
      if (before_step) before_step();
      trainer.step();
    });
    analyze(run.recording, run.profile);
    return run;
  }
};

bool says(const Profile& profile, const std::string& text) {
  return std::any_of(profile.advice.begin(), profile.advice.end(),
                     [&](const Advice& advice) { return contains(advice.text, text); });
}

// Times of steps by what recorded them, in windows that take turns: the clock of a GPU at its power
// limit drifts.
class Turns {
 public:
  /// A pause precedes each window, after which a GPU's clock is higher for `num_warmup` steps.
  Turns(std::function<void()> step, const Roofline& roofline, int num_warmup)
      : step_(std::move(step)), roofline_(roofline), num_warmup_(num_warmup) {}

  void run(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      add_plain(after_cupti_ms_);
      add(ProfileMode::events, events_);
      add_plain(after_events_ms_);
      if (has_cupti_) add(ProfileMode::automatic, cupti_);
    }
  }
  bool has_cupti() const { return has_cupti_; }

  struct Mode {
    std::vector<double> step_ms{}, gemms{}, attention{}, memory_bound{}, busy{}, sums{};
  };
  const Mode& events() const { return events_; }
  const Mode& cupti() const { return cupti_; }
  // Of steps that nothing records.
  double after_events_ms() const { return median(after_events_ms_); }
  double after_cupti_ms() const { return median(after_cupti_ms_); }

 private:
  static constexpr int kSteps = 4;

  void add_plain(std::vector<double>& step_ms) {
    for (int i = 0; i < num_warmup_ + kSteps; ++i) {
      const double ms = time_ms(step_);
      if (i >= num_warmup_) step_ms.push_back(ms);
    }
  }

  Recording without_warmup(Recording recording) const {
    recording.steps.erase(recording.steps.begin(), recording.steps.begin() + num_warmup_);
    std::erase_if(recording.launches,
                  [this](const LaunchSample& one) { return one.step < num_warmup_; });
    recording.device.clear();  // which refers to launches by index
    return recording;
  }

  void add(ProfileMode mode, Mode& to) {
    ProfileWindow window(mode, 300 * (num_warmup_ + kSteps), single_communicator());
    for (int i = 0; i < num_warmup_ + kSteps; ++i) {
      window.begin_step();
      step_();
      window.end_step();
    }
    ProfiledRun run = window.finish();
    has_cupti_ &= mode == ProfileMode::events || run.profile.mode == "cupti";
    if (!has_cupti_) MESSAGE(run.profile.mode_note);  // this user or container may not use it
    run.profile.roofline = roofline_;
    const Recording last = without_warmup(std::move(run.recording));
    analyze(last, run.profile);
    const Profile& p = run.profile;
    for (const StepSample& one : last.steps) to.step_ms.push_back(one.end - one.begin);
    to.gemms.push_back(p.gemms.ms);
    to.attention.push_back(p.attention.ms);
    to.memory_bound.push_back(p.memory_bound.ms);
    to.busy.push_back(p.busy_ms);
    to.sums.push_back((p.busy_ms + p.gap_ms) / p.step_ms);
  }

  std::function<void()> step_;
  Roofline roofline_;
  const int num_warmup_;
  bool has_cupti_ = true;
  std::vector<double> after_events_ms_, after_cupti_ms_;
  Mode events_, cupti_;
};

void check_mode(const std::string& name, const Turns::Mode& mode, double plain_ms, double allowed) {
  const double overhead = median(mode.step_ms) / plain_ms - 1;
  MESSAGE("a step takes " << plain_ms << " ms, recorded by " << name << " " << median(mode.step_ms)
                          << " ms");
  CHECK(overhead <= allowed);
  for (const double sum : mode.sums) CHECK(sum == doctest::Approx(1).epsilon(0.01));
}

// Windows of one round are compared, for which the clock is about the same.
double ratio_of(const std::vector<double>& events, const std::vector<double>& cupti) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < events.size(); ++i) ratios.push_back(events[i] / cupti[i]);
  return median(ratios);
}

// Parts of a step as shares of its kernels: at its power limit a GPU computes faster when events
// leave it idle between kernels.
void check_same(const std::string& what, const Turns& turns,
                std::vector<double> Turns::Mode::*part) {
  const Turns::Mode &events = turns.events(), &cupti = turns.cupti();
  const double ratio = ratio_of(events.*part, cupti.*part) / ratio_of(events.busy, cupti.busy);
  MESSAGE(what << ": " << median(events.*part) << " ms by events, " << median(cupti.*part)
               << " ms by CUPTI, ratio of shares " << ratio);
  CHECK(ratio == doctest::Approx(1).epsilon(0.02));
}

}  // namespace

TEST_CASE("events and CUPTI agree on a step's kernels, and cost little") {
  GpuProfile gpu;
  Turns turns([&] { gpu.trainer.step(); }, gpu.roofline, 3);
  turns.run(12);
  const double plain_ms = turns.after_events_ms();
  check_mode("events", turns.events(), plain_ms, 0.01);
  if (!turns.has_cupti()) return;
  check_mode("CUPTI", turns.cupti(), plain_ms, 0.03);
  MESSAGE("after CUPTI's windows it takes " << turns.after_cupti_ms() << " ms");
  CHECK(turns.after_cupti_ms() <= 1.005 * plain_ms);
  const double ratio = ratio_of(turns.events().busy, turns.cupti().busy);
  MESSAGE("kernels: " << median(turns.events().busy) << " ms by events, "
                      << median(turns.cupti().busy) << " ms by CUPTI, ratio " << ratio);
  CHECK(ratio == doctest::Approx(1).epsilon(0.02));
  check_same("GEMMs", turns, &Turns::Mode::gemms);
  check_same("attention", turns, &Turns::Mode::attention);
  check_same("memory-bound kernels", turns, &Turns::Mode::memory_bound);
}

TEST_CASE("CUPTI comes and goes while another thread, as that of ranks, calls CUDA") {
  const std::shared_ptr<void> event = gpu::create_event(gpu_stream().device().index);
  std::atomic<bool> is_done = false;
  std::thread other([&] {
    while (!is_done) {
      {
        const std::lock_guard calls(gpu::background_calls());
        gpu::has_reached(event.get());
      }
      std::this_thread::sleep_for(std::chrono::microseconds(2));
    }
  });
  int count = 0;
  try {
    for (; count < 20; ++count) start_device_tracer();
  } catch (const SystemError& error) {
    MESSAGE(error.what());  // this user or container may not use it
  }
  is_done = true;
  other.join();
  CHECK((count == 0 || count == 20));
}

TEST_CASE("planted faults are found on a GPU: a host that sleeps, a buffer that is never freed") {
  GpuProfile gpu;
  for (const ProfileMode mode : {ProfileMode::events, ProfileMode::automatic}) {
    std::vector<Tensor> forgotten;
    ProfiledRun run = gpu.run(mode, [&] {
      gpu_stream().synchronize();  // else the step's last kernels hide a part of the sleep
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      forgotten.push_back(Tensor::empty({std::int64_t{1} << 30}, DType::u8));
      name_new_blocks("forgetful_op", nullptr);
    });
    advise(run.profile);
    const Profile& p = run.profile;
    CAPTURE(p.mode);
    CAPTURE(p.host_late_ms);
    REQUIRE(!p.gaps.empty());
    CHECK(p.gaps.front().ms >= 4.5);
    CHECK(p.gaps.front().is_host_late);
    CHECK(p.host_late_ms >= 4.5);
    CHECK(p.host_late_ms < 7);
    CHECK(says(p, "the device waits for the host"));
    REQUIRE(!p.memory.kept.empty());
    CHECK(contains(p.memory.kept.front().owner, "forgetful_op"));
    CHECK(p.memory.kept.front().bytes >= std::int64_t{5} << 30);
    CHECK(contains(profile_page(p, {}, ""), "forgetful_op"));
  }
}

TEST_CASE("of a host's sleep that queued kernels hide, a profile shows the part that they do not") {
  GpuProfile gpu;
  const ProfiledRun run = gpu.run(
      ProfileMode::events, [] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
  CHECK(run.profile.host_late_ms > 2);
  CHECK(run.profile.host_late_ms < 5.5);
}

TEST_CASE("a planted fault is found on a GPU: one expert with all rows") {
  GpuProfile gpu([](Config& config) {
    config.model.top_k = 1;
    config.model.router.score = RouterScore::sigmoid;
    config.model.router.selection_bias_rate = 1e-6;
  });
  for (Router* router : gpu.trainer.model().routers()) {
    const auto num_experts = router->num_experts();
    std::vector<float> bias(num_experts, 0.0F);
    bias[2] = 100;
    router->selection_bias().copy_from(Tensor::from(bias, {num_experts}));
  }
  ProfiledRun run = gpu.run(ProfileMode::automatic);
  const RoutingCost cost = measure_routing_cost(gpu.config, gpu.trainer, run.profile.layers);
  MESSAGE("experts take " << cost.experts_ms << " ms, at equal loads " << cost.balanced_ms);
  REQUIRE(cost.imbalance.size() == 4);
  for (const double imbalance : cost.imbalance) CHECK(imbalance == 8);  // of eight experts
  run.profile.routing = cost;
  advise(run.profile);
  CHECK(says(run.profile, "expert loads are unequal, in the worst layer 8.0 times the mean"));
}

TEST_CASE("the rows of a layer's profile add up to its time without one") {
  constexpr int kPasses = 5;
  const StreamGuard guard(gpu_stream());
  const ExpertInputs inputs({.num_tokens = 32768,
                             .d_model = 1024,
                             .d_expert = 3584,
                             .num_experts = 8,
                             .top_k = 2,
                             .dtype = DType::bf16});
  const auto layer = make_variant(VariantKind::smoe, inputs);
  const auto step = [&] {
    for (int pass = 0; pass < kPasses; ++pass) {
      layer->forward(true);
      layer->backward();
    }
  };
  Turns turns(step, measure_roofline(DType::bf16), 15);
  turns.run(4);
  const double plain_ms = turns.after_events_ms();
  const auto check_rows = [&](const std::string& name, const Turns::Mode& mode) {
    MESSAGE("a pass takes " << plain_ms / kPasses << " ms, recorded by " << name << " "
                            << median(mode.step_ms) / kPasses << " ms, its rows "
                            << median(mode.busy) / kPasses << " ms");
    CHECK(median(mode.busy) == doctest::Approx(plain_ms).epsilon(0.03));
  };
  check_rows("events", turns.events());
  if (turns.has_cupti()) check_rows("CUPTI", turns.cupti());
}
