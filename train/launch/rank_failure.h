// How a rank ended, and what people are told of the first that failed.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace smoe {

/// How a process ended.
struct Ending {
  bool by_signal = false;
  int number = 0;  ///< the signal, or the exit code

  bool is_success() const { return !by_signal && number == 0; }
  /// As shells have it: 128 + signal for one that a signal killed.
  int exit_code() const { return by_signal ? 128 + number : number; }

  /// From what waitpid(2) says of a process that ended.
  static Ending of_status(int status);
};

/// "exited with code 1", "was killed by SIGKILL".
std::string to_string(const Ending& ending);
/// "SIGKILL"; "signal 34" for those without a name.
std::string name_of_signal(int signal);

/// A rank that failed, and where to read on.
struct RankFailure {
  int rank = 0;
  int local_rank = 0;
  std::string host = {};
  std::int64_t pid = 0;
  Ending ending = {};
  std::string error_line = {};  ///< the last one of its standard error; may be empty
  std::string log_path = {};    ///< on `host`; empty without logs
  std::deque<std::string> last_lines =
      {};  ///< of what it printed, where the console has not shown it
};

/// What made a job fail, in words, as launchers tell it each other and people.
struct JobFailure {
  int rank = -1;             ///< -1: no rank, but its launcher or host
  std::string line = {};     ///< who failed, how, and its error
  std::string details = {};  ///< lines to be read before it, each with its newline; may be empty
  int exit_code = 1;
  bool is_death = false;  ///< by a signal: rather a cause than what others come to in consequence
};

JobFailure describe(const RankFailure& failure);

/// The one that most likely brought about the others. They come in the order in which they were
/// noticed, which is not quite that in which they happened: hence a death comes before an error,
/// and among errors that of `accused`, whom the ranks themselves name as the first; -1 for nobody.
/// `failures` must not be empty.
const JobFailure& cause_of(const std::vector<JobFailure>& failures, int accused);

}  // namespace smoe
