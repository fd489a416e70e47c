// What the ranks send in a profile's window, and how much of it kernels hide.
#pragma once
#include "core/distributed/communicator.h"
#include "train/profile/profile.h"

namespace smoe {

/// Puts `times` on the recording's clock, in the order in which they were started, each in the step
/// that started it: so all ranks number the operations of a step alike.
void add_communication(std::vector<CollectiveTimes> times, Recording& recording);

/// Fills in what the ranks sent: `communication`, `communication_ms`, `exposed_ms`. Call before
/// what reads them.
void analyze_communication(const Recording& recording, Profile& profile);

struct Interval {
  double begin, end;
};

/// Intervals united, so that none overlap.
class IntervalUnion {
 public:
  explicit IntervalUnion(std::vector<Interval> intervals);
  const std::vector<Interval>& intervals() const { return intervals_; }
  /// Length of [begin, end] within the union.
  double overlap(double begin, double end) const;

 private:
  std::vector<Interval> intervals_;  // in order
};

/// When operations among the ranks ran.
IntervalUnion operations_of(const Recording& recording);

/// Fills in, on every rank, the ranks' times and what they say about each other: `ranks`, and of
/// each operation the last rank. A collective operation. Throws: SystemError when the ranks did not
/// start the same operations.
void gather_ranks(Communicator& communicator, Profile& profile);

}  // namespace smoe
