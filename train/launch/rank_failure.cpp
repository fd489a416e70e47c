#include "train/launch/rank_failure.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "core/base/check.h"

namespace smoe {

Ending Ending::of_status(int status) {
  if (WIFSIGNALED(status)) return {true, WTERMSIG(status)};
  return {false, WEXITSTATUS(status)};
}

std::string name_of_signal(int signal) {
  const char* const name = ::sigabbrev_np(signal);
  return name ? concat("SIG", name) : concat("signal ", signal);
}

std::string to_string(const Ending& ending) {
  if (!ending.by_signal) return concat("exited with code ", ending.number);
  return concat("was killed by ", name_of_signal(ending.number));
}

JobFailure describe(const RankFailure& failure) {
  JobFailure job;
  job.rank = failure.rank;
  job.exit_code = failure.ending.exit_code();
  job.is_death = failure.ending.by_signal;
  job.line = concat("rank ", failure.rank, " (local rank ", failure.local_rank, ", pid ",
                    failure.pid, " on ", failure.host, ") ", to_string(failure.ending));
  // Of SIGKILL a process cannot say anything any more.
  const bool is_killed = failure.ending.by_signal && failure.ending.number == SIGKILL;
  if (is_killed) job.line += ", by hand or because memory ran out";
  if (!is_killed && !failure.error_line.empty()) job.line += ": " + failure.error_line;
  if (failure.last_lines.empty()) return job;
  job.details = concat("last lines of rank ", failure.rank,
                       failure.log_path.empty() ? "" : "; more in " + failure.log_path, ":\n");
  for (const std::string& line : failure.last_lines) job.details += "  " + line + "\n";
  return job;
}

const JobFailure& cause_of(const std::vector<JobFailure>& failures, int accused) {
  const auto weight = [&](const JobFailure& failure) {
    return failure.is_death ? 2 : failure.rank == accused && accused >= 0 ? 1 : 0;
  };
  return *std::max_element(
      failures.begin(), failures.end(),
      [&](const JobFailure& a, const JobFailure& b) { return weight(a) < weight(b); });
}

}  // namespace smoe
