#include "train/profile/communication.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/tensor.h"

namespace smoe {
namespace {

IntervalUnion kernels_of(const Recording& recording) {
  std::vector<Interval> kernels;
  for (const LaunchSample& launch : recording.launches)
    kernels.push_back({launch.begin, launch.end});
  return IntervalUnion(std::move(kernels));
}

// Length of [begin, end] outside the kernels.
double exposed_part(const IntervalUnion& kernels, double begin, double end) {
  return end > begin ? end - begin - kernels.overlap(begin, end) : 0;
}

// Each rank's part of a reduction or gathering: what it sends; of a broadcast: what its root sends.
double sent_bytes(const CommunicationGroup& group, int num_ranks) {
  const double share = static_cast<double>(num_ranks - 1) / num_ranks;
  return static_cast<double>(group.bytes) * share * (group.operation == "all_reduce" ? 2 : 1);
}

// Sums over the ranks, in place.
void sum_over_ranks(std::vector<double>& values, Communicator& communicator) {
  const Stream host_stream;
  const StreamGuard host(host_stream);
  const Tensor tensor =
      Tensor::from(values, {static_cast<std::int64_t>(values.size())}, Category::workspace);
  communicator.all_reduce(tensor)->wait();
  values = tensor.to_vector<double>();
}

// `own` of each rank, rank after rank.
std::vector<double> gathered(const std::vector<double>& own, Communicator& communicator) {
  std::vector<double> all(own.size() * communicator.world_size(), 0.0);
  std::copy(own.begin(), own.end(),
            all.begin() + static_cast<std::ptrdiff_t>(own.size()) * communicator.rank());
  sum_over_ranks(all, communicator);
  return all;
}

}  // namespace

IntervalUnion::IntervalUnion(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  for (const Interval& one : intervals) {
    if (!intervals_.empty() && one.begin <= intervals_.back().end)
      intervals_.back().end = std::max(intervals_.back().end, one.end);
    else
      intervals_.push_back(one);
  }
}

double IntervalUnion::overlap(double begin, double end) const {
  double length = 0;
  auto one = std::lower_bound(intervals_.begin(), intervals_.end(), begin,
                              [](const Interval& a, double at) { return a.end < at; });
  for (; one != intervals_.end() && one->begin < end; ++one)
    length += std::max(0.0, std::min(one->end, end) - std::max(one->begin, begin));
  return length;
}

IntervalUnion operations_of(const Recording& recording) {
  std::vector<Interval> operations;
  for (const CommunicationSample& one : recording.communication)
    operations.push_back({one.begin, one.end});
  return IntervalUnion(std::move(operations));
}

void add_communication(std::vector<CollectiveTimes> times, Recording& recording) {
  std::stable_sort(times.begin(), times.end(),
                   [](const auto& a, const auto& b) { return a.start_ns < b.start_ns; });
  const auto ms = [&](std::int64_t ns) {
    return static_cast<double>(ns - recording.begin_ns) / 1e6;
  };
  for (const CollectiveTimes& one : times) {
    CommunicationSample sample{.operation = one.name,
                               .place = one.place,
                               .bytes = one.bytes,
                               .ready = ms(one.ready_ns),
                               .begin = ms(one.begin_ns),
                               .end = ms(one.end_ns)};
    for (const StepSample& step : recording.steps)
      sample.step += ms(one.start_ns) >= step.host_begin && &step != &recording.steps.front();
    recording.communication.push_back(sample);
  }
}

void analyze_communication(const Recording& recording, Profile& profile) {
  const IntervalUnion kernels = kernels_of(recording);
  const double window_begin = recording.steps.front().begin,
               window_end = recording.steps.back().end;
  const double per_step = 1.0 / static_cast<double>(recording.steps.size());
  const IntervalUnion operations = operations_of(recording);
  for (const Interval& one : operations.intervals()) {
    const double begin = std::max(one.begin, window_begin), end = std::min(one.end, window_end);
    profile.communication_ms += std::max(0.0, end - begin) * per_step;
    profile.exposed_ms += exposed_part(kernels, begin, end) * per_step;
  }
  std::vector<std::size_t> counts(recording.steps.size(), 0);
  std::vector<double> num_samples;  // by group
  for (const CommunicationSample& one : recording.communication) {
    const std::size_t index = counts[one.step]++;
    if (index == profile.communication.size()) {
      profile.communication.push_back(
          {.operation = one.operation, .phase = one.place.phase, .bytes = one.bytes});
      num_samples.push_back(0);
    }
    CommunicationGroup& group = profile.communication[index];
    const double step_begin = recording.steps[one.step].begin;
    ++num_samples[index];
    group.ready_ms += one.ready - step_begin;
    group.begin_ms += one.begin - step_begin;
    group.ms += one.end - one.begin;
    group.exposed_ms += exposed_part(kernels, one.begin, std::min(one.end, window_end));
    group.response_ms += one.end - one.ready;
  }
  for (std::size_t i = 0; i < num_samples.size(); ++i) {
    CommunicationGroup& group = profile.communication[i];
    for (double* const sum :
         {&group.ready_ms, &group.begin_ms, &group.ms, &group.exposed_ms, &group.response_ms})
      *sum /= num_samples[i];
    if (group.ms > 0) group.bytes_per_s = sent_bytes(group, profile.num_ranks) / group.ms * 1e3;
  }
}

void gather_ranks(Communicator& communicator, Profile& profile) {
  constexpr std::size_t kFields = 7;
  const int num_ranks = profile.num_ranks;
  if (num_ranks == 1) return;
  const std::vector<double> times =
      gathered({profile.step_ms, profile.busy_ms, profile.communication_ms, profile.exposed_ms,
                profile.data_ms, static_cast<double>(profile.memory.peak_bytes),
                static_cast<double>(profile.communication.size())},
               communicator);
  for (int rank = 0; rank < num_ranks; ++rank)
    if (times[kFields * rank + 6] != times[6])
      throw SystemError(
          fmt::format("profile: the ranks must start the same operations in a step; "
                      "rank 0 started {}, rank {} {}",
                      times[6], rank, times[kFields * rank + 6]));
  std::vector<double> own;
  for (const CommunicationGroup& group : profile.communication) own.push_back(group.response_ms);
  const std::vector<double> responses = gathered(own, communicator);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const double* const v = &times[kFields * rank];
    profile.ranks.push_back({.rank = rank,
                             .step_ms = v[0],
                             .busy_ms = v[1],
                             .communication_ms = v[2],
                             .exposed_ms = v[3],
                             .data_ms = v[4],
                             .peak_bytes = std::llround(v[5])});
  }
  // An operation ends on all ranks at about the same time, which serves as their common clock.
  for (std::size_t i = 0; i < own.size(); ++i) {
    CommunicationGroup& group = profile.communication[i];
    double most = responses[i], least = responses[i];
    for (int rank = 0; rank < num_ranks; ++rank) {
      const double response = responses[own.size() * rank + i];
      most = std::max(most, response);
      if (response <= least) {
        least = response;
        group.last_rank = rank;
      }
    }
    group.late_ms = most - least;
  }
}

}  // namespace smoe
