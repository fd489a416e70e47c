#include "train/launch/rank_failure.h"

#include <doctest/doctest.h>
#include <signal.h>

using namespace smoe;

TEST_CASE("exit statuses as text and as exit codes") {
  CHECK(to_string(ExitStatus{false, 3}) == "exited with code 3");
  CHECK(to_string(ExitStatus{true, SIGKILL}) == "was killed by SIGKILL");
  CHECK(name_of_signal(SIGRTMIN + 1).starts_with("signal "));
  CHECK(ExitStatus{true, SIGSEGV}.exit_code() == 139);
  CHECK(ExitStatus{false, 7}.exit_code() == 7);
  CHECK(ExitStatus{}.is_success());
  CHECK_FALSE(ExitStatus{true, 0}.is_success());
}

TEST_CASE("a failure is described by one line and the last output") {
  RankFailure failure{.rank = 5, .local_rank = 1, .host = "b", .pid = 77, .status = {false, 1}};
  CHECK(describe(failure).line == "rank 5 (local rank 1, pid 77 on b) exited with code 1");
  CHECK(describe(failure).details == "");
  failure.error_line = "disk full";
  failure.log_path = "logs/rank-5.log";
  failure.last_lines = {"step 1", "disk full"};
  const JobFailure described = describe(failure);
  CHECK(described.line == "rank 5 (local rank 1, pid 77 on b) exited with code 1: disk full");
  CHECK(described.details ==
        "last lines of rank 5; more in logs/rank-5.log:\n  step 1\n  disk full\n");
  CHECK(described.exit_code == 1);
  failure.error_line = "rank 5: disk full";
  CHECK(describe(failure).line == described.line);
  CHECK_FALSE(described.is_death);
  // An earlier line of output does not explain a SIGKILL.
  failure.status = {true, SIGKILL};
  CHECK(describe(failure).line ==
        "rank 5 (local rank 1, pid 77 on b) was killed by SIGKILL, by a user or the out-of-memory "
        "killer");
  CHECK(describe(failure).exit_code == 137);
}

TEST_CASE("the cause is the first death, else the first failed rank, else the first error") {
  std::vector<JobFailure> failures(4);
  for (int i = 0; i < 4; ++i) failures[i].rank = i;
  CHECK(cause_of(failures, -1).rank == 0);
  CHECK(cause_of(failures, 2).rank == 2);
  CHECK(cause_of(failures, 9).rank == 0);
  failures[1].is_death = failures[3].is_death = true;
  CHECK(cause_of(failures, 2).rank == 1);
}
