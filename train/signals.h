// SIGTERM, SIGINT and SIGUSR1 ask a run to stop after its step. The handler sets a flag and does
// nothing else; whoever trains looks at the flag between steps, saves and ends.
#pragma once

namespace smoe {

/// While it lives, the three signals set a flag instead of ending the process; afterwards they do
/// again what they did before. At most one at a time.
class StopSignals {
 public:
  /// Clears the flag. Throws: InternalError when another one lives; SystemError.
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The signal that came last, or 0 when none did.
  int received() const;
};

/// "SIGTERM" and so on, for the signals above.
const char* signal_name(int signal);

/// What a process that a signal stopped exits with, as shells have it: 128 + signal.
constexpr int exit_code_of_signal(int signal) {
  return 128 + signal;
}

}  // namespace smoe
