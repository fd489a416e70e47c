#include "train/profile/recorder.h"

#include <algorithm>

#include "core/gpu.h"
#include "train/profile/launch_cost.h"

namespace smoe {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kShortestWaitMs = 0.002;  // a shorter one found the device ready

}  // namespace

Recorder::Recorder(std::size_t num_launches, LaunchMarker* marker)
    : stream_(current_stream()),
      has_events_(stream_.device().type == DeviceType::cuda && !marker),
      marker_(marker) {
  recording_.launches.reserve(num_launches);
  recording_.ranges.reserve(4 * num_launches);
  events_.reserve(num_launches);
  if (stream_.device().type == DeviceType::cuda)
    while (pool_.size() < 2 * num_launches + 64)
      pool_.push_back(gpu::create_event(stream_.device().index));
  if (has_events_) recording_.launch_ms = measure_launch_cost();
  stream_.synchronize();
  start_ = Clock::now();
  recording_.begin_ns = start_.time_since_epoch().count();
  if (stream_.device().type == DeviceType::cuda) record_event(stream_.launch().stream);  // event 0
}

double Recorder::now() const {
  return std::chrono::duration<double, std::milli>(Clock::now() - start_).count();
}

int Recorder::record_event(void* stream) {
  if (num_used_ == static_cast<int>(pool_.size()))
    pool_.push_back(gpu::create_event(stream_.device().index));
  gpu::record_event(pool_[num_used_].get(), stream);
  return num_used_++;
}

double Recorder::time_of(int event) const {
  return gpu::milliseconds_between(pool_[0].get(), pool_[event].get());
}

void Recorder::begin_step() {
  const double time = now();
  recording_.steps.push_back({.host_begin = time, .host_end = time, .begin = time, .end = time});
  step_events_.emplace_back();
  if (!pool_.empty()) step_events_.back().begin = record_event(stream_.launch().stream);
  last_stream_ = nullptr;
}

void Recorder::end_step() {
  StepSample& step = recording_.steps.back();
  step.host_end = step.end = now();
  if (!pool_.empty()) step_events_.back().end = record_event(stream_.launch().stream);
}

bool Recorder::follows_last(const Launch& launch, const Place& place) const {
  if (launch.stream != last_stream_) return false;
  const Place& last = recording_.launches.back().place;
  return last.phase == place.phase && last.micro_batch == place.micro_batch &&
         !gpu::has_reached(pool_[events_.back().end].get());
}

void Recorder::begin_kernel(const Launch& launch, const char* name, const Cost& cost) {
  const Place& place = current_place();
  Events events;
  if (has_events_ && !follows_last(launch, place)) events.begin = record_event(launch.stream);
  if (marker_) marker_->begin_launch(static_cast<int>(recording_.launches.size()));
  recording_.launches.push_back({.name = name,
                                 .place = place,
                                 .cost = cost,
                                 .step = static_cast<int>(recording_.steps.size()) - 1,
                                 .host_begin = now()});
  events_.push_back(events);
}

void Recorder::end_kernel(const Launch& launch) {
  if (marker_) marker_->end_launch();
  if (has_events_) {
    events_.back().end = record_event(launch.stream);
    last_stream_ = launch.stream;
  }
  recording_.launches.back().host_end = now();
}

void Recorder::end_op(const char* op, const char* part) {
  std::vector<LaunchSample>& launches = recording_.launches;
  if (first_unnamed_ < launches.size()) {
    for (std::size_t i = first_unnamed_; i < launches.size(); ++i) {
      if (launches[i].place.op) continue;
      launches[i].place.op = op;
      launches[i].place.part = part;
    }
    if (!current_place().op)
      recording_.ranges.push_back({.place = launches.back().place,
                                   .begin = launches[first_unnamed_].host_begin,
                                   .end = launches.back().host_end});
  }
  first_unnamed_ = launches.size();
}

void Recorder::begin_place(const Place& place) {
  first_unnamed_ = recording_.launches.size();
  open_ranges_.push_back({.place = place, .begin = now()});
}

void Recorder::end_place() {
  first_unnamed_ = recording_.launches.size();
  open_ranges_.back().end = now();
  recording_.ranges.push_back(open_ranges_.back());
  open_ranges_.pop_back();
}

void Recorder::begin_wait() {
  if (wait_depth_++ > 0) return;
  recording_.waits.push_back({.place = current_place(),
                              .step = static_cast<int>(recording_.steps.size()) - 1,
                              .begin = now()});
}

void Recorder::end_wait() {
  if (--wait_depth_ > 0) return;
  WaitSample& wait = recording_.waits.back();
  wait.end = now();
  if (wait.end - wait.begin < kShortestWaitMs) recording_.waits.pop_back();
}

void Recorder::resolve_launches() {
  for (std::size_t i = 0; i < events_.size(); ++i) {
    LaunchSample& launch = recording_.launches[i];
    if (has_events_) {
      launch.end = time_of(events_[i].end);
      launch.begin =
          events_[i].begin >= 0 ? time_of(events_[i].begin) : recording_.launches[i - 1].end;
    } else if (!marker_) {
      launch.begin = launch.host_begin;
      launch.end = launch.host_end;
    }
    launch.busy = std::max(0.0, launch.end - launch.begin - recording_.launch_ms);
  }
}

Recording Recorder::finish() {
  stream_.synchronize();
  recording_.end_ns = Clock::now().time_since_epoch().count();
  resolve_launches();
  if (!pool_.empty())
    for (std::size_t i = 0; i < step_events_.size(); ++i) {
      recording_.steps[i].begin = time_of(step_events_[i].begin);
      recording_.steps[i].end = time_of(step_events_[i].end);
    }
  return std::move(recording_);
}

}  // namespace smoe
