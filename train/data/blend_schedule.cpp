#include "train/data/blend_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::int64_t kWhole = std::int64_t{1} << 40;

}  // namespace

BlendSchedule::BlendSchedule(const std::vector<double>& weights) {
  SMOE_CHECK(!weights.empty(), "blend: weights must not be empty");
  double sum = 0;
  for (const double weight : weights) {
    SMOE_CHECK(std::isfinite(weight) && weight > 0, "blend: weights must be above 0; got ", weight);
    sum += weight;
  }
  SMOE_CHECK(std::isfinite(sum), "blend: the sum of the weights must be finite; got ", sum);
  for (const double weight : weights) {
    shares_.push_back(std::llround(weight / sum * static_cast<double>(kWhole)));
    SMOE_CHECK(shares_.back() > 0, "blend: weights must be above 10^-12 of their sum ", sum,
               "; got ", weight);
  }
  // The rounding remainder goes to the largest share, where its relative error is smallest.
  *std::max_element(shares_.begin(), shares_.end()) +=
      kWhole - std::accumulate(shares_.begin(), shares_.end(), std::int64_t{0});
  state_.counts.resize(weights.size());
  state_.deficits.resize(weights.size());
}

// A source is eligible for the next sample once its deficit is 1 / (2 num_sources - 2). Of the
// eligible sources, the one whose deficit would exceed its bound first is chosen.
std::size_t BlendSchedule::advance(State& state) const {
  const auto scale = static_cast<std::int64_t>(std::max<std::size_t>(1, 2 * shares_.size() - 2));
  std::size_t chosen = shares_.size();
  double earliest = 0;
  for (std::size_t s = 0; s < shares_.size(); ++s) {
    state.deficits[s] += shares_[s];
    if (scale * state.deficits[s] < kWhole) continue;
    const double deadline = static_cast<double>((scale - 1) * kWhole - scale * state.deficits[s]) /
                            static_cast<double>(shares_[s]);
    if (chosen < shares_.size() && deadline >= earliest) continue;
    chosen = s;
    earliest = deadline;
  }
  SMOE_INTERNAL_CHECK(chosen < shares_.size(), "blend: no source is eligible for the next sample");
  state.deficits[chosen] -= kWhole;
  ++state.num_samples;
  return chosen;
}

void BlendSchedule::advance_to(std::int64_t num_samples) const {
  if (num_samples < state_.num_samples) {
    state_.num_samples = 0;
    std::fill(state_.counts.begin(), state_.counts.end(), 0);
    std::fill(state_.deficits.begin(), state_.deficits.end(), 0);
  }
  while (state_.num_samples < num_samples) ++state_.counts[advance(state_)];
}

std::vector<std::int64_t> BlendSchedule::counts_before(std::int64_t num_samples) const {
  advance_to(num_samples);
  return state_.counts;
}

std::vector<BlendSchedule::Pick> BlendSchedule::picks(std::int64_t first,
                                                      std::int64_t count) const {
  advance_to(first);
  std::vector<Pick> picks;
  picks.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::size_t source = advance(state_);
    picks.push_back({source, state_.counts[source]++});
  }
  return picks;
}

double BlendSchedule::share(std::size_t source) const {
  return static_cast<double>(shares_[source]) / static_cast<double>(kWhole);
}

}  // namespace smoe
