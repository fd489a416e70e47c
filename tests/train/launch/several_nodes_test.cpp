// Launchers of several hosts, simulated on one: they connect, number their ranks, and stop and
// restart together.
#include <doctest/doctest.h>

#include "core/system/socket.h"
#include "tests/support/text.h"
#include "tests/train/launch/launched_job.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// The flags for the nodes of one job.
class Nodes {
 public:
  std::string of(int node, int num_nodes = 2, const char* job = "shared") const {
    return concat("--nnodes ", num_nodes, " --node-rank ", node, " --master-addr 127.0.0.1",
                  " --master-port ", port_, " --rdzv-id ", job, " ");
  }

 private:
  int port_ = Socket::listen("127.0.0.1", 0).port();  // closed again before the test uses it
};

bool is_ready(const LaunchedJob& job) {
  return happens_within(20, [&] { return !job.file("ready").empty(); });
}

const std::string kWait = "echo $$ >> $DIR/ready; while :; do sleep 0.05; done";

}  // namespace

TEST_CASE("ranks are numbered across hosts and share one rendezvous") {
  const Nodes nodes;
  const std::string script =
      "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $GROUP_RANK $GROUP_WORLD_SIZE"
      " $SMOE_JOB_ID $SMOE_RDZV_ENDPOINT > $DIR/place-$LOCAL_RANK";
  LaunchedJob second(nodes.of(1) + "--nproc-per-node 2", script);  // waits for the first
  LaunchedJob first(nodes.of(0), script);
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0);
  const std::string place = first.file("place-0");
  CHECK(place.starts_with("0 0 3 1 0 2 shared 127.0.0.1:"));
  const std::string meeting = place.substr(place.find("shared"));
  CHECK(second.file("place-0") == "1 0 3 2 1 2 " + meeting);
  CHECK(second.file("place-1") == "2 1 3 2 1 2 " + meeting);
}

TEST_CASE("a failure on one host stops all, and all launchers name the rank") {
  const Nodes nodes;
  LaunchedJob first(nodes.of(0), kWait);
  LaunchedJob second(nodes.of(1), "echo $$ >> $DIR/ready; echo on fire >&2; exit 7");
  CHECK(first.wait() == 7);
  CHECK(second.wait() == 7);
  CHECK(first.seconds() < 6);
  for (const LaunchedJob* job : {&first, &second}) {
    CHECK(job->last_line().starts_with("rank 1 (local rank 0, pid "));
    CHECK(job->last_line().ends_with(") exited with code 7: on fire"));
  }
  for (const pid_t pid : numbers_in(first.file("ready"))) CHECK_FALSE(is_running(pid));
}

TEST_CASE("a signal to one launcher reaches the ranks of all hosts") {
  const Nodes nodes;
  const std::string script = "trap 'exit 143' TERM; " + kWait;
  LaunchedJob first(nodes.of(0), script), second(nodes.of(1), script);
  REQUIRE(is_ready(first));
  REQUIRE(is_ready(second));
  second.send(SIGTERM);
  CHECK(first.wait() == 143);
  CHECK(second.wait() == 143);
}

TEST_CASE("all hosts restart together") {
  const Nodes nodes;
  const std::string script =
      "echo start $TORCHELASTIC_RESTART_COUNT >> $DIR/starts;"
      "[ $TORCHELASTIC_RESTART_COUNT = 1 ] && exit 0; [ $RANK = 1 ] && exit 5; exec sleep 100";
  LaunchedJob first(nodes.of(0) + "--max-restarts 1", script);
  LaunchedJob second(nodes.of(1) + "--max-restarts 1", script);
  CHECK(first.wait() == 0);
  CHECK(second.wait() == 0);
  CHECK(first.file("starts") == "start 0\nstart 1\n");
  CHECK(second.file("starts") == "start 0\nstart 1\n");
}

TEST_CASE("other jobs, duplicate node ranks and other host counts are refused") {
  const Nodes nodes;
  LaunchedJob first(nodes.of(0, 3), kWait), second(nodes.of(1, 3), kWait);
  REQUIRE(happens_within(20, [&] { return contains(first.error(), "waiting at 127.0.0.1:"); }));
  LaunchedJob other_job(nodes.of(2, 3, "other"), kWait);
  CHECK(other_job.wait() == 2);
  CHECK(contains(other_job.error(), "another job"));
  // Either of the two may have joined first.
  LaunchedJob duplicate(nodes.of(1, 3), kWait);
  const auto is_refused = [](const LaunchedJob& job) {
    return contains(job.error(),
                    "launch: each host must have its own node rank; 1 has already joined");
  };
  CHECK(happens_within(10, [&] { return is_refused(duplicate) || is_refused(second); }));
  LaunchedJob other_count(nodes.of(2, 4), kWait);
  CHECK(first.wait() == 2);
  CHECK(contains(
      first.error(),
      "launch: the number of hosts must be the same on all of them; got 3 here and 4 on node 2"));
}

TEST_CASE("ranks of other hosts stop when the first launcher is lost") {
  const Nodes nodes;
  LaunchedJob first(nodes.of(0), kWait), second(nodes.of(1), kWait);
  REQUIRE(is_ready(first));
  REQUIRE(is_ready(second));
  std::vector<pid_t> pids = numbers_in(first.file("ready") + second.file("ready"));
  CHECK(pids.size() == 2);
  first.send(SIGKILL);
  CHECK(first.wait() == -SIGKILL);
  CHECK(second.wait() == 1);
  CHECK(second.seconds() < 20);
  for (const pid_t pid : pids) CHECK(happens_within(2, [&] { return !is_running(pid); }));
}
