#include "train/profile/launch_cost.h"

#include <memory>
#include <vector>

#include "core/gpu.h"
#include "core/tensor.h"
#include "kernels/elementwise.h"
#include "train/profile/timing.h"

namespace smoe {
namespace {

constexpr int kNumLaunches = 64, kNumRuns = 7;

void fill(const Tensor& x) {
  kernels::fill(launch(), {x.data(), x.dtype(), x.numel(), 1.0});
}

double launch_ms(const Tensor& ahead, const std::vector<std::shared_ptr<void>>& events) {
  constexpr int kNumAhead = 32;
  const Stream& stream = current_stream();
  // The device must be busy until all is queued: else the host's speed would be measured.
  for (int i = 0; i < kNumAhead; ++i) fill(ahead);
  for (const auto& event : events) {
    fill(ahead.rows(0, 1));
    gpu::record_event(event.get(), stream.launch().stream);
  }
  stream.synchronize();
  return gpu::milliseconds_between(events.front().get(), events.back().get()) /
         static_cast<double>(events.size() - 1);
}

}  // namespace

double measure_launch_cost() {
  const Tensor ahead = Tensor::empty({std::int64_t{32} << 20}, DType::f32, Category::workspace);
  std::vector<std::shared_ptr<void>> events;
  for (int i = 0; i < kNumLaunches; ++i)
    events.push_back(gpu::create_event(current_stream().device().index));
  std::vector<double> times;
  for (int run = 0; run < kNumRuns; ++run) times.push_back(launch_ms(ahead, events));
  return median(std::move(times));
}

}  // namespace smoe
