// What communication costs a training step: ranks, a GPU each, train with and without sending
// gradients and weights, in turn, so that clocks and data are the same for both. Without sending,
// the ranks' weights differ, which changes no time but that of routing.
//
//   smoe launch --nproc-per-node 2 --no-python smoe_bench_parallel CONFIG [key=value ...] [PAIRS]
//
// PAIRS: "pairs=N", default 8. As the only rank it times one GPU.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/system/sandbox.h"
#include "train/ranks.h"
#include "train/run_facts.h"
#include "train/trainer.h"

namespace smoe {
namespace {

class Nothing final : public Collective {
 public:
  void wait() override {}
};

/// A communicator that leaves out what is large while it is muted.
class Mutable final : public Communicator {
 public:
  explicit Mutable(Communicator& communicator) : communicator_(communicator) {}
  bool is_muted = false;

  int rank() const override { return communicator_.rank(); }
  int world_size() const override { return communicator_.world_size(); }
  CollectiveHandle all_reduce(const Tensor& values) override {
    return is_left_out(values) ? nothing_ : communicator_.all_reduce(values);
  }
  CollectiveHandle reduce_scatter(const Tensor& values) override {
    return is_left_out(values) ? nothing_ : communicator_.reduce_scatter(values);
  }
  CollectiveHandle all_gather(const Tensor& values) override {
    return is_left_out(values) ? nothing_ : communicator_.all_gather(values);
  }
  CollectiveHandle broadcast(const Tensor& values, int root) override {
    return communicator_.broadcast(values, root);
  }
  CollectiveHandle broadcast_each(const std::vector<RootedTensor>& tensors) override {
    return communicator_.broadcast_each(tensors);
  }
  CollectiveHandle barrier() override { return communicator_.barrier(); }
  void set_timeout(double seconds) override { communicator_.set_timeout(seconds); }
  void cancel() override { communicator_.cancel(); }

 private:
  bool is_left_out(const Tensor& values) const { return is_muted && values.bytes() >= 1 << 20; }

  Communicator& communicator_;
  CollectiveHandle nothing_ = std::make_shared<Nothing>();
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Milliseconds per step. The first step after a change is not measured: the weights of the step
/// before it may still be gathered.
double timed_steps(Trainer& trainer, Communicator& ranks) {
  constexpr int kSteps = 2;
  trainer.step();
  ranks.barrier()->wait();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kSteps; ++i) trainer.step();
  const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
  return passed.count() / kSteps;
}

void measure(Ranks& ranks, const Config& config, int pairs) {
  const TrainingData data = TrainingData::open(config.data);
  if (ranks.are_several()) ranks.join(run_facts(config, data, {}), device_identity());
  Mutable communicator(ranks.communicator());
  Trainer trainer(config, data, communicator);
  timed_steps(trainer, communicator);
  std::vector<double> with, without, more;
  for (int i = 0; i < pairs; ++i) {
    // Each order as often as the other.
    double times[2] = {};
    for (const bool is_muted : {i % 2 == 0, i % 2 != 0}) {
      communicator.is_muted = is_muted;
      times[is_muted] = timed_steps(trainer, communicator);
    }
    with.push_back(times[0]);
    without.push_back(times[1]);
    more.push_back(times[0] - times[1]);
  }
  if (ranks.is_first()) {
    std::printf(
        "%d ranks, zero %d, bucket %ld MiB, %ld sequences a step: with %.2f ms, without %.2f ms, "
        "difference of medians %.2f, median of differences %.2f, efficiency %.2f %%; peak %.2f GiB",
        ranks.world_size(), config.parallel.zero ? 1 : 0, config.parallel.bucket_mb,
        config.train.global_batch, median(with), median(without), median(with) - median(without),
        median(more), 100 * median(without) / median(with),
        static_cast<double>(memory_use().peak_bytes) / (1 << 30));
    std::printf("; %s\n",
                communicator.world_size() > 1 ? ranks.communicator().description().c_str() : "");
    std::fflush(stdout);
  }
  ranks.leave();
}

int run(int argc, char** argv) {
  std::vector<std::string> overrides;
  int pairs = 8;
  for (int i = 2; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with("pairs="))
      pairs = std::stoi(argument.substr(6));
    else
      overrides.push_back(argument);
  }
  SMOE_CHECK(argc > 1, "usage: smoe_bench_parallel CONFIG [key=value ...] [pairs=N]");
  Config config = load_config(argv[1], overrides);
  const RankEnvironment place = read_rank_environment();
  const Stream stream(select_device("cuda", place.local_rank, place.local_world_size));
  const StreamGuard guard(stream);
  Ranks ranks(place, 60);
  try {
    measure(ranks, config, pairs);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", ranks.report_failure(error.what(), false).c_str());
    std::fflush(stderr);
    std::_Exit(1);
  }
  return 0;
}

}  // namespace
}  // namespace smoe

int main(int argc, char** argv) {
  smoe::serve_sandboxed_task(argc, argv);  // which reads the token set
  try {
    return smoe::run(argc, argv);
  } catch (const smoe::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
