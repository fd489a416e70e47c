// Fault injection: every file system call, and other operations with external causes of failure,
// has a named site where a test can make it fail, so that each failure can be tested at each call.
// Only builds with tests have it (CMake: SMOE_TESTS); in others fault_point is a constant that
// compiles to nothing.
//
// The environment variable SMOE_FAULT=site:k:action[,site:k:action...] requests faults:
//   site    the name in the code, such as write or fsync; * for all sites
//   k       the k-th call at that site, counted from 1; "k+" that call and all later ones
//   action  kill or stop (SIGKILL or SIGSTOP to this process), slow (the call begins 1.5 s later),
//           short (half of the bytes are read or written), nan (a computed value becomes NaN), or
//           the errno to fail with: EIO, ENOSPC, ...
#pragma once
#include <cstdint>
#include <string_view>

namespace smoe {

/// How one call must behave.
struct Fault {
  int error = 0;          ///< unless 0, fail with this errno and do nothing
  bool is_short = false;  ///< transfer half of the requested bytes
  bool is_nan = false;    ///< make one value of the result NaN
};

#ifdef SMOE_FAULTS

/// Counts a call at `site` and returns its fault; does not return when the fault kills the process.
/// Thread-safe. Throws: UsageError when SMOE_FAULT does not follow the syntax above.
Fault fault_point(std::string_view site);

/// Replaces the requested faults of this process during its lifetime; one object at a time.
class FaultScope {
 public:
  /// `faults` has the syntax of SMOE_FAULT, or is empty to count calls only. Resets all counts.
  /// Throws: UsageError when it does not follow the syntax.
  explicit FaultScope(std::string_view faults = "");
  ~FaultScope();
  FaultScope(const FaultScope&) = delete;
  FaultScope& operator=(const FaultScope&) = delete;

  /// Number of calls at `site` so far; * for all sites.
  std::int64_t calls(std::string_view site) const;
};

#else

constexpr Fault fault_point(std::string_view) {
  return {};
}

#endif

}  // namespace smoe
