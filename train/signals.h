// Signals that ask a process to stop: SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU. The
// handler sets a flag, which the process checks where it can stop, acknowledges the first signal in
// a line, and ends the process on the second.
#pragma once

namespace smoe {

/// RAII: the signals set a flag instead of ending the process; the destructor restores their former
/// actions. SIGHUP stays ignored if it is, as under nohup. At most one instance at a time.
class StopSignals {
 public:
  /// Clears the flag. The first signal writes "SIGTERM: <answer>; again to end at once" to standard
  /// error, unless `answer`, which must outlive the object, is null.
  /// Throws: InternalError when another instance exists; SystemError.
  explicit StopSignals(const char* answer = nullptr);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The first signal received, or 0. The same signal again, or SIGINT and SIGTERM one after the
  /// other, ends the process with the signal's default action. Not within 250 ms, since shells and
  /// `timeout` send one request twice; nor SIGXCPU, which the kernel repeats.
  int received() const;
};

/// Thrown to leave work in progress because of a signal. Not an error.
struct Stopped {
  int signal;
};

/// "SIGTERM" and so on, for the signals above.
const char* signal_name(int signal);

/// The exit code of a process stopped by a signal, by the convention of shells: 128 + signal.
constexpr int exit_code_of_signal(int signal) {
  return 128 + signal;
}

}  // namespace smoe
