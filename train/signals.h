// SIGTERM, SIGINT and SIGUSR1 ask a run to stop after its current step. The handler only sets a
// flag, which the training loop checks between steps.
#pragma once

namespace smoe {

/// RAII: the three signals set a flag instead of ending the process; the destructor restores their
/// former actions. At most one instance at a time.
class StopSignals {
 public:
  /// Clears the flag. Throws: InternalError when another instance exists; SystemError.
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The signal received last, or 0.
  int received() const;
};

/// "SIGTERM" and so on, for the signals above.
const char* signal_name(int signal);

/// The exit code of a process stopped by a signal, by the convention of shells: 128 + signal.
constexpr int exit_code_of_signal(int signal) {
  return 128 + signal;
}

}  // namespace smoe
