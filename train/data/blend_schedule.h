// In which order samples are taken from several sources so that each has its share at all times:
// the "chairman assignment" of R. Tijdeman (Discrete Mathematics 32, 1980). If source s has the
// share w_s, its count after n samples differs from w_s * n by less than one, for every n.
#pragma once
#include <cstdint>
#include <vector>

namespace smoe {

/// The deterministic order of sources in a blend. Not thread-safe.
class BlendSchedule {
 public:
  /// A source's share is its weight divided by the sum of `weights`. Throws: UsageError unless
  /// there is a weight and all are finite and above 0.
  explicit BlendSchedule(const std::vector<double>& weights);

  /// One sample: the index-th of `source`.
  struct Pick {
    std::size_t source = 0;
    std::int64_t index = 0;
  };

  /// The samples [first, first + count). Takes time proportional to the distance from the end of
  /// the last call, or from 0 if that lies after `first`: about 100 million samples per second and
  /// source.
  std::vector<Pick> picks(std::int64_t first, std::int64_t count) const;

  /// How many of the first `num_samples` samples each source gives; takes as long as picks.
  std::vector<std::int64_t> counts_before(std::int64_t num_samples) const;

  /// The share of a source as stored: a multiple of 2^-40.
  double share(std::size_t source) const;

 private:
  struct State {
    std::int64_t num_samples = 0;
    std::vector<std::int64_t> counts;    // samples per source
    std::vector<std::int64_t> deficits;  // shares * num_samples - counts, in units of 2^-40
  };

  std::size_t advance(State& state) const;
  void advance_to(std::int64_t num_samples) const;

  std::vector<std::int64_t> shares_;  // in units of 2^-40; their sum is 2^40
  mutable State state_;
};

}  // namespace smoe
