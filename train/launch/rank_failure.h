// How a rank exited, and the report of the first failure.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace smoe {

/// How a process exited.
struct ExitStatus {
  bool by_signal = false;
  int number = 0;  ///< the signal, or the exit code

  bool is_success() const { return !by_signal && number == 0; }
  /// As in shells: 128 + signal for a process killed by a signal.
  int exit_code() const { return by_signal ? 128 + number : number; }

  /// Decodes the status from waitpid(2).
  static ExitStatus of_wait_status(int status);
};

/// "exited with code 1", "was killed by SIGKILL".
std::string to_string(const ExitStatus& status);
/// "SIGKILL"; "signal 34" for signals without a name.
std::string name_of_signal(int signal);

/// A rank that failed, with the end of its output.
struct RankFailure {
  int rank = 0;
  int local_rank = 0;
  std::string host = {};
  std::int64_t pid = 0;
  ExitStatus status = {};
  std::string error_line = {};              ///< last line of its standard error; may be empty
  std::string log_path = {};                ///< on `host`; empty without logs
  std::deque<std::string> last_lines = {};  ///< of its output, unless the console has shown it
};

/// The failure of a job, as launchers exchange and report it.
struct JobFailure {
  int rank = -1;             ///< -1: a launcher or host rather than a rank
  std::string line = {};     ///< which rank failed, how, and its error
  std::string details = {};  ///< lines to print before it, each with its newline; may be empty
  int exit_code = 1;
  bool is_death = false;  ///< killed by a signal: more likely a cause than a consequence
};

JobFailure describe(const RankFailure& failure);

/// The failure that most likely caused the others. They are in the order of detection, which may
/// differ from that of their occurrence: hence a death precedes an error, and among errors that of
/// `first_failed` precedes others, the rank that the ranks themselves report as the first; -1 for
/// none. `failures` must not be empty.
const JobFailure& cause_of(const std::vector<JobFailure>& failures, int first_failed);

}  // namespace smoe
