#include "train/launch/rank_failure.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "core/base/check.h"
#include "core/system/text.h"
#include "train/launch/rank_output.h"

namespace smoe {
ExitStatus ExitStatus::of_wait_status(int status) {
  if (WIFSIGNALED(status)) return {true, WTERMSIG(status)};
  return {false, WEXITSTATUS(status)};
}

std::string name_of_signal(int signal) {
  const char* const name = ::sigabbrev_np(signal);
  return name ? concat("SIG", name) : concat("signal ", signal);
}

std::string to_string(const ExitStatus& status) {
  if (!status.by_signal) return concat("exited with code ", status.number);
  return concat("was killed by ", name_of_signal(status.number));
}

JobFailure describe(const RankFailure& failure) {
  JobFailure job;
  job.rank = failure.rank;
  job.exit_code = failure.status.exit_code();
  job.is_death = failure.status.by_signal;
  job.line = concat("rank ", failure.rank, " (local rank ", failure.local_rank, ", pid ",
                    failure.pid, " on ", failure.host, ") ", to_string(failure.status));
  // A process cannot report SIGKILL, so its last error line is unrelated.
  const bool is_killed = failure.status.by_signal && failure.status.number == SIGKILL;
  if (is_killed) job.line += ", by a user or the out-of-memory killer";
  if (!is_killed && !failure.error_line.empty())
    job.line +=
        ": " + printable(without_rank(failure.error_line, failure.rank), std::string_view::npos);
  if (failure.last_lines.empty()) return job;
  job.details = concat("last lines of rank ", failure.rank,
                       failure.log_path.empty() ? "" : "; more in " + failure.log_path, ":\n");
  for (const std::string& line : failure.last_lines)
    job.details += "  " + printable(line, std::string_view::npos) + "\n";
  return job;
}

const JobFailure& cause_of(const std::vector<JobFailure>& failures, int first_failed) {
  const auto weight = [&](const JobFailure& failure) {
    return failure.is_death ? 2 : failure.rank == first_failed && first_failed >= 0 ? 1 : 0;
  };
  return *std::max_element(
      failures.begin(), failures.end(),
      [&](const JobFailure& a, const JobFailure& b) { return weight(a) < weight(b); });
}

}  // namespace smoe
