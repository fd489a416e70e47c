// The launcher with ranks that succeed, fail, hang and print too much. They are shell commands,
// since the launcher's guarantees do not depend on what a rank runs.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/gpu.h"
#include "core/system/folder.h"
#include "tests/support/text.h"
#include "tests/train/launch/launched_job.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// Waits until each of `count` ranks has written its line to $DIR/ready.
bool are_ready(const LaunchedJob& job, int count) {
  return happens_within(20, [&] {
    const std::string ready = job.file("ready");
    return std::count(ready.begin(), ready.end(), '\n') == count;
  });
}

bool all_exit_within(double seconds, const std::vector<pid_t>& pids) {
  return happens_within(seconds, [&] {
    return std::none_of(pids.begin(), pids.end(), [](pid_t pid) { return is_running(pid); });
  });
}

}  // namespace

TEST_CASE("successful ranks: rank 0 is shown, each has its log, the exit code is 0") {
  LaunchedJob job("--nproc-per-node 3 --log-dir \"$DIR/logs\"",
                  "echo out $RANK; echo err $RANK >&2; cat; [ $RANK = 1 ] || sleep 0.1");
  CHECK(job.wait() == 0);
  CHECK(job.output() == "out 0\n");
  CHECK(contains(job.error(), "smoe launch: 3 ranks, on "));
  CHECK(contains(job.error(), "err 0\n"));
  CHECK_FALSE(contains(job.error(), "err 1"));
  for (const char* const rank : {"0", "1", "2"}) {
    const std::string log = job.file(concat("logs/rank-", rank, ".log"));
    CHECK(contains(log, concat("out ", rank, "\n")));
    CHECK(contains(log, concat("err ", rank, "\n")));
  }
}

TEST_CASE("ranks get the variables of torchrun and of smoe") {
  LaunchedJob job(
      "--nproc_per_node 2 --max_restarts 3 --rdzv_id me --tee 1",
      "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $GROUP_RANK $GROUP_WORLD_SIZE "
      "$ROLE_RANK"
      " $TORCHELASTIC_RESTART_COUNT/$TORCHELASTIC_MAX_RESTARTS $TORCHELASTIC_RUN_ID $SMOE_JOB_ID;"
      "[ $MASTER_ADDR:$MASTER_PORT = $SMOE_RDZV_ENDPOINT ] && echo endpoint $SMOE_RDZV_SERVED;"
      "[ $SMOE_THREADS -ge 1 ] && echo threads");
  CHECK(job.wait() == 0);
  for (const char* const line :
       {"[rank 0] 0 0 2 2 0 1 0 0/3 me me\n", "[rank 1] 1 1 2 2 0 1 1 0/3 me me\n",
        "[rank 0] endpoint 1\n", "[rank 1] endpoint 1\n", "[rank 1] threads\n"})
    CHECK(contains(job.output(), line));
}

TEST_CASE("arguments after the command belong to it, and -- may precede it") {
  for (const char* const flags : {"--no-python", "--no-python --"}) {
    CAPTURE(flags);
    LaunchedJob job(concat(flags, " printf '%s,' --tee -- --help -t 3"));
    CHECK(job.wait() == 0);
    CHECK(job.output() == "--tee,--,--help,-t,3,");
  }
}

TEST_CASE("a single rank needs no rendezvous") {
  LaunchedJob job("", "echo $RANK/$WORLD_SIZE ${SMOE_RDZV_ENDPOINT-none}");
  CHECK(job.wait() == 0);
  CHECK(job.output() == "0/1 none\n");
}

TEST_CASE("a teed line names its rank once") {
  LaunchedJob job("--nproc-per-node 2 --tee 3", "echo rank $RANK: no data >&2");
  CHECK(job.wait() == 0);
  CHECK(contains(job.error(), "[rank 1] no data\n"));
}

TEST_CASE("streams are teed and redirected as requested") {
  const std::string print = "echo out $RANK; echo err $RANK >&2";
  LaunchedJob some("--nproc-per-node 3 --tee 1:3,2:2 -r 0:1", print);
  CHECK(some.wait() == 0);
  CHECK(some.output() == "[rank 1] out 1\n");
  CHECK(contains(some.error(), "err 0\n"));
  CHECK(contains(some.error(), "[rank 1] err 1\n"));
  CHECK(contains(some.error(), "[rank 2] err 2\n"));
  LaunchedJob none("--nproc-per-node 2 --redirects 3", print);
  CHECK(none.wait() == 0);
  CHECK(none.output() == "");
  CHECK_FALSE(contains(none.error(), "err"));
}

TEST_CASE("the last line names the first failure, with its exit code and error") {
  LaunchedJob job("--nproc-per-node 3 --log-dir \"$DIR/logs\"",
                  "echo $$ >> $DIR/ready;"
                  "[ $RANK = 1 ] && { echo at step 3; echo disk on fire >&2; exit 7; };"
                  "exec sleep 100");
  CHECK(job.wait() == 7);
  CHECK(job.seconds() < 5);
  const std::string error = job.error();
  CHECK(contains(error, concat("last lines of rank 1; more in ", job.folder(),
                               "/logs/rank-1.log:\n  at step 3\n  disk on fire\n")));
  CHECK(job.last_line().starts_with("rank 1 (local rank 1, pid "));
  CHECK(job.last_line().ends_with(") exited with code 7: disk on fire"));
  CHECK(all_exit_within(0, numbers_in(job.file("ready"))));
}

TEST_CASE("a killed rank is named, and all ranks exit within five seconds") {
  LaunchedJob job("--nproc-per-node 3",
                  "echo $$ >> $DIR/ready; trap '' TERM; [ $RANK = 2 ] && kill -9 $$;"
                  "while :; do sleep 0.05; done");
  REQUIRE(are_ready(job, 3));
  CHECK(job.wait() == 137);
  CHECK(job.seconds() < 5);
  CHECK(contains(job.error(), "killing rank 0 and 1, which did not exit in time"));
  CHECK(job.last_line().starts_with("rank 2 (local rank 2, pid "));
  CHECK(contains(job.last_line(), ") was killed by SIGKILL"));
  CHECK(all_exit_within(0, numbers_in(job.file("ready"))));
}

TEST_CASE("a rank killed by a signal is named before ranks that fail as a consequence") {
  LaunchedJob job("--nproc-per-node 3",
                  "[ $RANK = 2 ] && { sleep 0.2; kill -SEGV $$; }; sleep 0.4; exit 1");
  CHECK(job.wait() == 139);
  CHECK(contains(job.last_line(), "rank 2 "));
  CHECK(contains(job.last_line(), "was killed by SIGSEGV"));
}

TEST_CASE("a rank that takes longer to crash than the others to lose it is named") {
  LaunchedJob job("--nproc-per-node 2 --max-restarts 0",
                  "[ $RANK = 0 ] && exit 1; trap '' TERM; sleep 1.5; kill -SEGV $$");
  CHECK(job.wait() == 139);
  CHECK(contains(job.last_line(), "rank 1 "));
  CHECK(contains(job.last_line(), "was killed by SIGSEGV"));
}

TEST_CASE("a stopped rank is named and killed with the others") {
  LaunchedJob job("--nproc-per-node 2",
                  "echo $$ >> $DIR/ready; [ $RANK = 1 ] && kill -STOP $$; sleep 0.3; exit 4");
  CHECK(job.wait() == 4);
  CHECK(job.seconds() < 5);
  CHECK(contains(job.error(), "rank 1 (pid "));
  CHECK(contains(job.error(), ") was stopped by SIGSTOP"));
  CHECK(contains(job.last_line(), "rank 0 "));
  CHECK(all_exit_within(0, numbers_in(job.file("ready"))));
}

TEST_CASE("descendants of ranks are killed with them, even in another session") {
  LaunchedJob job("", "setsid sleep 100 & echo $! > $DIR/ready; sleep 100 & echo $! >> $DIR/ready");
  CHECK(job.wait() == 0);
  const std::vector<pid_t> pids = numbers_in(job.file("ready"));
  CHECK(pids.size() == 2);
  CHECK(all_exit_within(0.5, pids));
}

TEST_CASE("neither ranks nor their children outlive a killed launcher") {
  for (int i = 0; i < 5; ++i) {
    LaunchedJob job("--nproc-per-node 3",
                    "trap '' TERM HUP; sleep 100 & echo $$ $! >> $DIR/ready; wait");
    REQUIRE(are_ready(job, 3));
    const std::vector<pid_t> pids = numbers_in(job.file("ready"));
    CHECK(pids.size() == 6);
    job.send(SIGKILL);
    CHECK(job.wait() == -SIGKILL);
    CHECK(all_exit_within(2, pids));
  }
}

TEST_CASE("a signal is forwarded once and determines the exit code") {
  const std::string script =
      "trap 'echo $RANK TERM >> $DIR/seen; exit 143' TERM; trap 'echo $RANK INT; exit 130' INT;"
      "trap 'echo $RANK USR1; exit 138' USR1; echo >> $DIR/ready; while :; do sleep 0.05; done";
  const std::vector<std::pair<int, int>> signals = {
      {SIGTERM, 143}, {SIGINT, 130}, {SIGUSR1, 138}, {SIGHUP, 129}};
  for (const auto& [signal, exit_code] : signals) {
    CAPTURE(signal);
    LaunchedJob job("--nproc-per-node 2 --tee 1", script);
    REQUIRE(are_ready(job, 2));
    job.send(signal);
    CHECK(job.wait() == exit_code);
    CHECK(job.last_line().ends_with(": asking the ranks to stop; they have 30 s"));
    const bool is_term = signal == SIGTERM || signal == SIGHUP;  // SIGHUP would end ranks unsaved
    const std::string seen = is_term ? job.file("seen") : job.output();
    CHECK(std::count(seen.begin(), seen.end(), '\n') == 2);
  }
}

TEST_CASE("after a signal, exit code 0 is not a failure, but others are") {
  LaunchedJob well("", "trap 'exit 0' TERM; echo >> $DIR/ready; while :; do sleep 0.05; done");
  REQUIRE(are_ready(well, 1));
  well.send(SIGTERM);
  CHECK(well.wait() == 0);
  LaunchedJob ill("--max-restarts 3",
                  "trap 'echo cannot save >&2; exit 1' TERM; echo >> $DIR/ready;"
                  "while :; do sleep 0.05; done");
  REQUIRE(are_ready(ill, 1));
  ill.send(SIGTERM);
  CHECK(ill.wait() == 1);
  CHECK(contains(ill.last_line(), "exited with code 1: cannot save"));
}

TEST_CASE("a rank stopped by a signal stops the job without a restart") {
  LaunchedJob job("--nproc-per-node 2 --max-restarts 3",
                  "echo >> $DIR/ready; [ $RANK = 1 ] && exit 143; sleep 0.2; exit 143");
  CHECK(job.wait() == 143);
  CHECK(contains(job.error(), "rank 1 was sent SIGTERM and has stopped; waiting for the others"));
  CHECK(job.file("ready") == "\n\n");
}

TEST_CASE("ranks that do not stop are killed after --grace or on a second signal") {
  const std::string deaf = "trap '' TERM INT; echo $$ >> $DIR/ready; while :; do sleep 0.05; done";
  LaunchedJob job("--nproc-per-node 2 --grace 0.3", deaf);
  REQUIRE(are_ready(job, 2));
  job.send(SIGTERM);
  CHECK(job.wait() == 143);
  CHECK(job.last_line() == "killing rank 0 and 1, which did not exit in time");
  CHECK(all_exit_within(0, numbers_in(job.file("ready"))));

  LaunchedJob twice("--nproc-per-node 2", deaf);
  REQUIRE(are_ready(twice, 2));
  twice.send(SIGINT);
  REQUIRE(happens_within(20, [&] { return contains(twice.error(), "asking the ranks to stop"); }));
  twice.send(SIGINT);
  CHECK(twice.wait() == 130);
  CHECK(contains(twice.error(), "a second signal, SIGINT: killing the ranks\n"));
}

TEST_CASE("all ranks restart together, at most as often as allowed") {
  const std::string script =
      "echo start $TORCHELASTIC_RESTART_COUNT; [ $TORCHELASTIC_RESTART_COUNT = 2 ] && exit 0;"
      "[ $RANK = 1 ] && exit 5; exec sleep 100";
  LaunchedJob enough("--nproc-per-node 2 --max-restarts 2", script);
  CHECK(enough.wait() == 0);
  CHECK(enough.output() == "start 0\nstart 1\nstart 2\n");
  CHECK(contains(enough.error(), "restarting all ranks, restart 2 of 2\n"));
  LaunchedJob too_few("--nproc-per-node 2 --max-restarts 1", script);
  CHECK(too_few.wait() == 5);
  CHECK(too_few.output() == "start 0\nstart 1\n");
  CHECK(contains(too_few.error(), "not restarted: that was restart 1 of 1\n"));
  CHECK(contains(too_few.last_line(), "rank 1 "));
  LaunchedJob wrong_usage("--max-restarts 1", "exit 2");
  CHECK(wrong_usage.wait() == 2);
  CHECK(contains(wrong_usage.error(), "not restarted: exit code 2 means invalid usage"));
}

TEST_CASE(
    "a rank with much output never blocks, its log is bounded, and a stalled console is dropped") {
  const TemporaryFolder place;
  const std::string fifo = place / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  const int reader = ::open(fifo.c_str(), O_RDWR);  // and never reads
  LaunchedJob job(
      "--nproc-per-node 2 --log-dir \"$DIR/logs\" --log-mb 1 --tee 3",
      "[ $RANK = 0 ] && { yes 'a line of some length' | head -c 20000000; echo end; };:", fifo);
  CHECK(job.wait() == 0);
  ::close(reader);
  CHECK(job.seconds() < 20);
  CHECK(job.file("logs/rank-0.log").ends_with("end\n"));
  const std::string logs = job.folder() + "/logs";
  for (const char* const name : {"rank-0.log", "rank-0.log.1", "rank-0.log.2", "rank-0.log.3"}) {
    const std::string path = logs + "/" + name;
    CHECK(kind_of(path) == PathKind::file);
    CHECK(contents(path).size() <= 1 << 20);
  }
  CHECK(contents(logs + "/rank-0.log.1").size() > 900'000);
  CHECK(kind_of(logs + "/rank-0.log.4") == PathKind::none);
}

TEST_CASE("concurrent launches do not interfere") {
  const std::string script = "echo $SMOE_RDZV_ENDPOINT $SMOE_JOB_ID > $DIR/place-$RANK; sleep 0.3";
  LaunchedJob one("--nproc-per-node 2", script), two("--nproc-per-node 2 --standalone", script);
  CHECK(one.wait() == 0);
  CHECK(two.wait() == 0);
  CHECK(one.file("place-0") == one.file("place-1"));
  CHECK(two.file("place-0") == two.file("place-1"));
  CHECK(one.file("place-0") != two.file("place-0"));
  CHECK(one.file("place-0").size() > 20);
}

TEST_CASE("invalid flags print one line and exit with code 2") {
  const auto refusal = [](const std::string& flags) {
    LaunchedJob job(flags);
    const int exit_code = job.wait();
    CAPTURE(flags);
    CHECK(exit_code == 2);
    return job.error();
  };
  CHECK(contains(refusal(""), "smoe launch: a command is required, such as train CONFIG"));
  CHECK(contains(refusal("--nprocs 2 train x"), "smoe launch: unknown flag --nprocs"));
  CHECK(contains(refusal("eval x"),
                 "smoe launch: only train and profile run on several ranks; got 'eval'"));
  CHECK(contains(refusal("train configs/tiny.yaml optim.lrr=1"),
                 "unknown key; did you mean optim.lr?"));
  CHECK(contains(refusal("-- train configs/tiny.yaml optim.lr=x"), "optim.lr"));
  for (const char* const wrong : {"0", "-1", "two", "", "4097"})
    CHECK(contains(refusal(concat("--nproc-per-node='", wrong, "' train x")),
                   "--nproc-per-node: must be 1 to 4096, gpu, cpu or auto; got '"));
  CHECK(contains(refusal("--tee 4 train x"), "--tee: must be 0 (none), 1 (output)"));
  CHECK(contains(refusal("--redirects 0:1,0:2 train x"), "--redirects: must be"));
  CHECK(
      contains(refusal("--nnodes 2 train x"), "--node-rank: must be given with --nnodes, 0 to 1"));
  CHECK(
      contains(refusal("--nnodes 2 --node-rank 2 train x"), "--node-rank: must be below --nnodes"));
  CHECK(contains(refusal("--nnodes 2 --node-rank 0 train x"), "--master-addr: must name the host"));
  CHECK(contains(refusal("--nnodes 2 --node-rank 0 --standalone train x"),
                 "--standalone: requires one host"));
  CHECK(contains(refusal("--rdzv-endpoint a:b train x"), "--rdzv-endpoint: must be host:port"));
  CHECK(contains(refusal("--max-restarts -1 train x"), "--max-restarts: must be 0 or more"));
  CHECK(contains(refusal("--grace -1 train x"), "--grace: must be 0 to 86400 s; got -1"));
  CHECK(contains(refusal("--numa-binding core train x"), "--numa-binding: must be node"));
  if (gpu::num_visible() < 3)
    CHECK(contains(refusal("--nproc-per-node 3 --numa-binding node train x"),
                   "--numa-binding: each rank on this host must have a GPU; got 3 ranks and "));
  CHECK(contains(refusal("--nnodes 1:4 train x"), "--nnodes"));
}

TEST_CASE("a program that cannot be run is named") {
  LaunchedJob job("--no-python no-such-program");
  CHECK(job.wait() == 1);
  CHECK(job.last_line() == "launch: cannot run no-such-program: No such file or directory");
}

TEST_CASE("two launches do not write the same logs") {
  const TemporaryFolder logs;
  const std::string flags = "--log-dir " + logs.path();
  LaunchedJob first(flags, "echo here; sleep 60");
  REQUIRE(happens_within(20, [&] { return contents(logs / "rank-0.log") == "here\n"; }));
  LaunchedJob second(flags, "echo there");
  CHECK(second.wait() == 2);
  CHECK(second.error().find("another launch writes its logs to " + logs.path()) !=
        std::string::npos);
  CHECK(contents(logs / "rank-0.log") == "here\n");
}

TEST_CASE("the id of a job can come from a file or the environment") {
  const TemporaryFolder folder;
  overwrite(folder / "id", "from-file\n");
  const std::string script = "echo $TORCHELASTIC_RUN_ID";
  LaunchedJob file("--rdzv-id-file " + (folder / "id"), script);
  CHECK(file.wait() == 0);
  CHECK(file.output() == "from-file\n");
  ::setenv("SMOE_RDZV_ID", "from-variable", 1);
  LaunchedJob variable("", script);
  CHECK(variable.wait() == 0);
  LaunchedJob both("--rdzv-id-file " + (folder / "id"), script);
  CHECK(both.wait() == 2);
  ::unsetenv("SMOE_RDZV_ID");
  CHECK(variable.output() == "from-variable\n");
}
