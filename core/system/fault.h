// Faults on purpose: every system call of core/io, and whatever else may fail from outside, asks at
// a named site whether it is to fail this time, so that tests can try each failure at each call.
// Only builds with tests have this seam (CMake: SMOE_TESTS); in all others fault_point is a
// constant that leaves nothing in the program.
//
// SMOE_FAULT=site:k:action[,site:k:action...] in the environment of a program asks for faults:
//   site    what the code calls it, such as write or fsync; * for all
//   k       the k-th call at that site, counted from 1; "k+" that one and all that follow
//   action  kill or stop (SIGKILL or SIGSTOP to this process), short (half of the bytes are read or
//           written), nan (a computed value becomes one), or the errno to fail with: EIO, ENOSPC,
//           ...
#pragma once
#include <cstdint>
#include <string_view>

namespace smoe {

/// What becomes of a call.
struct Fault {
  int error = 0;          ///< unless 0, it fails with this errno and does nothing
  bool is_short = false;  ///< it does half of what it was asked for
  bool is_nan = false;    ///< one value of its result becomes a NaN
};

#ifdef SMOE_FAULTS

/// Counts a call at `site` and says what becomes of it; does not return where the process is to be
/// killed. Any thread may call it. Throws: UsageError when SMOE_FAULT is not as above.
Fault fault_point(std::string_view site);

/// Faults to come in this process in place of those of SMOE_FAULT, while the object lives; one at a
/// time.
class FaultScope {
 public:
  /// `faults` as in SMOE_FAULT, or empty to count calls only. Counts start anew.
  /// Throws: UsageError when it is not as above.
  explicit FaultScope(std::string_view faults = "");
  ~FaultScope();
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;

  /// Calls at `site` up to now; * for all.
  std::int64_t calls(std::string_view site) const;
};

#else

constexpr Fault fault_point(std::string_view) {
  return {};
}

#endif

}  // namespace smoe
