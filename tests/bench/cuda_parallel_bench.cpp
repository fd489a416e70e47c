// What communication costs a training step: ranks, a GPU each, train with and without sending
// gradients and weights, in turn, so that clocks and data are the same for both. Without sending,
// the ranks' weights differ, which changes no time but that of routing.
//
//   smoe launch --nproc-per-node 2 --no-python smoe_bench_parallel CONFIG [key=value ...]
//     [pairs=N] [trace]
//
// N: default 8. As the only rank it times one GPU. "trace" also prints when each
// operation of two steps was ready and done, and how long computing waited for it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
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

/// One operation of a traced step, in ms from the step's start. `stall` is how long the stream that
/// computes waited for it where its result was needed.
struct TraceLine {
  const char* name;
  std::int64_t bytes;
  double ready, done, stall;
};

/// Events around operations: where each was called and waited for on the stream that computes, and
/// where it was done, which a stream that does nothing else waits for.
class Trace {
 public:
  struct Operation {
    const char* name;
    std::int64_t bytes;
    Event ready;
    std::optional<Event> done, wait_begin, wait_end;
  };

  Trace() : waiter_(current_stream().device()), start_(current_stream()) {}

  std::size_t add(const char* name, const Tensor& values, Collective& inner) {
    operations_.push_back({name, values.bytes(), ready_, {}, {}, {}});
    const StreamGuard guard(waiter_);
    inner.wait();
    operations_.back().done.emplace(waiter_);
    return operations_.size() - 1;
  }
  /// To be called before the operation is.
  void mark_ready() { ready_ = Event(current_stream()); }
  void wait(std::size_t index, Collective& inner) {
    operations_[index].wait_begin.emplace(current_stream());
    inner.wait();
    operations_[index].wait_end.emplace(current_stream());
  }
  /// The next two wait for the device.
  double ms_until(const Event& event) const { return event.ms_since(start_); }
  std::vector<TraceLine> lines() const {
    std::vector<TraceLine> result;
    for (const Operation& one : operations_)
      result.push_back({one.name, one.bytes, one.ready.ms_since(start_), one.done->ms_since(start_),
                        one.wait_end ? one.wait_end->ms_since(*one.wait_begin) : 0});
    return result;
  }

 private:
  Stream waiter_;
  Event start_, ready_ = start_;
  std::vector<Operation> operations_;
};

class Traced final : public Collective {
 public:
  Traced(std::shared_ptr<Trace> trace, std::size_t index, CollectiveHandle inner)
      : trace_(std::move(trace)), index_(index), inner_(std::move(inner)) {}
  void wait() override { trace_->wait(index_, *inner_); }

 private:
  std::shared_ptr<Trace> trace_;
  std::size_t index_;
  CollectiveHandle inner_;
};

/// A communicator that leaves out what is large while it is muted, and traces it otherwise.
class Mutable final : public Communicator {
 public:
  explicit Mutable(Communicator& communicator) : communicator_(communicator) {}
  bool is_muted = false;
  std::shared_ptr<Trace> trace;  // null: none

  int rank() const override { return communicator_.rank(); }
  int world_size() const override { return communicator_.world_size(); }
  CollectiveHandle all_reduce(const Tensor& values) override {
    return run("all_reduce", values, [&] { return communicator_.all_reduce(values); });
  }
  CollectiveHandle reduce_scatter(const Tensor& values) override {
    return run("reduce_scatter", values, [&] { return communicator_.reduce_scatter(values); });
  }
  CollectiveHandle all_gather(const Tensor& values) override {
    return run("all_gather", values, [&] { return communicator_.all_gather(values); });
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
  template <class F>
  CollectiveHandle run(const char* name, const Tensor& values, F&& call) {
    if (is_muted && values.bytes() >= 1 << 20) return nothing_;
    if (!trace || values.device().type != DeviceType::cuda) return call();
    trace->mark_ready();
    CollectiveHandle inner = call();
    const std::size_t index = trace->add(name, values, *inner);
    return std::make_shared<Traced>(trace, index, std::move(inner));
  }

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

/// Prints the operations of the second of two steps, and of the gather that the first one started.
void print_trace(Trainer& trainer, Mutable& communicator, bool prints) {
  communicator.is_muted = false;
  for (int i = 0; i < 2; ++i) trainer.step();
  communicator.barrier()->wait();
  const auto trace = std::make_shared<Trace>();
  communicator.trace = trace;
  trainer.step();
  const Event middle(current_stream());
  trainer.step();
  const Event end(current_stream());
  communicator.trace = nullptr;
  trainer.step();  // waits for what the traced steps have started
  if (!prints) return;
  double stalls = 0, busy = 0, until = 0;
  std::printf("operation          MiB     ready      done   took  stall  (ms from the start)\n");
  for (const TraceLine& line : trace->lines()) {
    const double begin = std::max(line.ready, until);
    until = line.done;
    stalls += line.stall;
    busy += line.done - begin;
    std::printf("%-14s %7.2f  %8.3f  %8.3f %6.3f %6.3f\n", line.name,
                static_cast<double>(line.bytes) / (1 << 20), line.ready, line.done,
                line.done - begin, line.stall);
  }
  const double steps = trace->ms_until(end);
  std::printf(
      "two steps of %.2f and %.2f ms: communication busy for %.2f ms, computing waits %.2f ms, "
      "hidden %.1f %%\n",
      trace->ms_until(middle), steps - trace->ms_until(middle), busy, stalls,
      100 * (1 - stalls / busy));
}

void measure(Ranks& ranks, const Config& config, int pairs, bool traces) {
  const TrainingData data = TrainingData::open(config.data);
  if (ranks.are_several()) ranks.join(run_facts(config, {}, data, {}), device_identity());
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
  if (ranks.are_several() && traces) print_trace(trainer, communicator, ranks.is_first());
  ranks.leave();
}

int run(int argc, char** argv) {
  std::vector<std::string> overrides;
  int pairs = 8;
  bool traces = false;
  for (int i = 2; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with("pairs="))
      pairs = std::stoi(argument.substr(6));
    else if (argument == "trace")
      traces = true;
    else
      overrides.push_back(argument);
  }
  SMOE_CHECK(argc > 1, "usage: smoe_bench_parallel CONFIG [key=value ...] [pairs=N] [trace]");
  Config config = load_config(argv[1], overrides);
  const RankEnvironment place = read_rank_environment();
  const Stream stream(select_device("cuda", place.local_rank, place.local_world_size));
  const StreamGuard guard(stream);
  Ranks ranks(place, 60, config.parallel.transport);
  try {
    measure(ranks, config, pairs, traces);
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
