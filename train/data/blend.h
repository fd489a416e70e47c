// In what order samples come from several sources, so that each has its share at all times: the
// "chairman assignment" of R. Tijdeman (Discrete Mathematics 32, 1980). Where source s has the
// share w_s of n samples, it has given w_s * n of them give or take less than one, for every n.
#pragma once
#include <cstdint>
#include <vector>

namespace smoe {

/// The order of sources; nothing is drawn at random. Not to be used by two threads at once.
class Blend {
 public:
  /// A source's share is its weight over the sum of `weights`. Throws: UsageError unless there is a
  /// weight and all are finite and above 0.
  explicit Blend(const std::vector<double>& weights);

  /// A sample comes from `source`, after `index` others from there.
  struct Pick {
    std::size_t source = 0;
    std::int64_t index = 0;
  };

  /// The samples [first, first + count). Takes time in the distance from the end of the last call,
  /// or from 0 when that is behind `first`: about 100 million samples a second and source.
  std::vector<Pick> picks(std::int64_t first, std::int64_t count) const;

  /// The share of a source, as it is kept: a multiple of 2^-40.
  double share(std::size_t source) const;

 private:
  struct State {
    std::int64_t num_samples = 0;
    std::vector<std::int64_t> counts;    // of each source's samples
    std::vector<std::int64_t> deficits;  // shares * num_samples - counts, in units
  };

  std::size_t advance(State& state) const;

  std::vector<std::int64_t> shares_;  // in units of 2^-40; they add up to 2^40
  mutable State state_;
};

}  // namespace smoe
