// The variables of each launcher, taken from real processes or its manual, and invalid values.
#include "train/launch/rank_environment.h"

#include <doctest/doctest.h>

#include "tests/support/temporary_folder.h"

using namespace smoe;

namespace {

using Variables = std::map<std::string, std::string>;

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"GROUP_RANK", "1"},
                             {"MASTER_ADDR", "node-a"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "none"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"}};

const Variables kMpirun = {{"OMPI_COMM_WORLD_RANK", "0"},       {"OMPI_COMM_WORLD_SIZE", "4"},
                           {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                           {"OMPI_COMM_WORLD_NODE_RANK", "0"},  {"PMIX_NAMESPACE", "2716336129"}};

const Variables kSrun = {{"SLURM_PROCID", "9"},
                         {"SLURM_NTASKS", "64"},  // of the allocation; the step has fewer
                         {"SLURM_STEP_NUM_TASKS", "11"},
                         {"SLURM_LOCALID", "1"},
                         {"SLURM_NODEID", "2"},
                         {"SLURM_STEP_TASKS_PER_NODE", "4(x2),3"},
                         {"SLURM_JOB_ID", "77"},
                         {"SLURM_STEP_ID", "0"},
                         {"MASTER_ADDR", "node-a"}};

// `base` with changes; a value of "-" removes the variable.
Variables with(Variables base, const Variables& changes) {
  for (const auto& [name, value] : changes) {
    base[name] = value;
    if (value == "-") base.erase(name);
  }
  return base;
}

std::string refusal(const Variables& base, const Variables& changes) {
  return message_of([&] { read_rank_environment(with(base, changes)); });
}

}  // namespace

TEST_CASE("without variables this is the only rank") {
  const RankEnvironment e = read_rank_environment({{"PATH", "/bin"}, {"MASTER_ADDR", "x"}});
  CHECK(e.rank == 0);
  CHECK(e.world_size == 1);
  CHECK(e.local_world_size == 1);
  CHECK(e.endpoint == "");
  CHECK_FALSE(e.is_host);
}

TEST_CASE("torchrun") {
  RankEnvironment e = read_rank_environment(kTorchrun);
  CHECK(e.rank == 5);
  CHECK(e.world_size == 8);
  CHECK(e.local_rank == 1);
  CHECK(e.local_world_size == 4);
  CHECK(e.node_rank == 1);
  CHECK(e.restart_count == 2);
  CHECK(e.endpoint == "node-a:29501");  // torchrun itself listens on MASTER_PORT
  CHECK(e.job_id == "none");
  CHECK_FALSE(e.is_host);
  CHECK(read_rank_environment(with(kTorchrun, {{"RANK", "0"}})).is_host);

  // torchrun takes precedence over mpirun and srun, under which it may run.
  Variables both = kTorchrun;
  both.insert(kMpirun.begin(), kMpirun.end());
  both.insert(kSrun.begin(), kSrun.end());
  CHECK(read_rank_environment(both).rank == 5);
}

TEST_CASE("smoe launch serves the rendezvous and names it") {
  const RankEnvironment e = read_rank_environment(with(kTorchrun, {{"RANK", "0"},
                                                                   {"SMOE_RDZV_ENDPOINT", "h:1"},
                                                                   {"SMOE_RDZV_SERVED", "1"},
                                                                   {"SMOE_JOB_ID", "abc"}}));
  CHECK(e.endpoint == "h:1");
  CHECK(e.job_id == "abc");
  CHECK_FALSE(e.is_host);
}

TEST_CASE("one rank per host, set by hand") {
  const RankEnvironment e = read_rank_environment(
      {{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "::1"}, {"MASTER_PORT", "7"}});
  CHECK(e.rank == 3);
  CHECK(e.node_rank == 3);
  CHECK(e.local_rank == 0);
  CHECK(e.local_world_size == 1);
  CHECK(e.endpoint == "[::1]:8");
  const RankEnvironment one = read_rank_environment({{"RANK", "0"}, {"WORLD_SIZE", "1"}});
  CHECK(one.world_size == 1);
  CHECK_FALSE(one.is_host);
  CHECK(read_rank_environment({{"WORLD_SIZE", "1"}}).world_size == 1);
}

TEST_CASE("mpirun: the port is derived from the job id") {
  const RankEnvironment e = read_rank_environment(kMpirun);
  CHECK(e.rank == 0);
  CHECK(e.world_size == 4);
  CHECK(e.local_world_size == 4);
  CHECK(e.is_host);
  CHECK(e.job_id == "2716336129");
  CHECK(e.endpoint.starts_with("127.0.0.1:"));
  const int port = std::stoi(e.endpoint.substr(10));
  CHECK(port >= 15000);
  CHECK(port < 30000);
  const RankEnvironment peer =
      read_rank_environment(with(kMpirun, {{"OMPI_COMM_WORLD_RANK", "3"}}));
  CHECK(peer.endpoint == e.endpoint);
  CHECK_FALSE(peer.is_host);
  CHECK(read_rank_environment(with(kMpirun, {{"PMIX_NAMESPACE", "2716336130"}})).endpoint !=
        e.endpoint);

  const Variables four_of_eight = {{"OMPI_COMM_WORLD_SIZE", "8"}, {"OMPI_COMM_WORLD_RANK", "6"}};
  CHECK(refusal(kMpirun, four_of_eight) ==
        "MASTER_ADDR: must name the host of rank 0; it is not set");
  const RankEnvironment second = read_rank_environment(
      with(with(kMpirun, four_of_eight), {{"MASTER_ADDR", "a"}, {"MASTER_PORT", "600"}}));
  CHECK(second.endpoint == "a:601");
  CHECK(second.node_rank == 1);
}

TEST_CASE("srun: the tasks per node are parsed") {
  const RankEnvironment e = read_rank_environment(kSrun);
  CHECK(e.rank == 9);
  CHECK(e.world_size == 11);
  CHECK(e.local_rank == 1);
  CHECK(e.local_world_size == 3);
  CHECK(e.node_rank == 2);
  CHECK(e.job_id == "77.0");
  CHECK(e.endpoint.starts_with("node-a:"));
  CHECK(read_rank_environment(with(kSrun, {{"SLURM_NODEID", "1"}})).local_world_size == 4);
  CHECK(refusal(kSrun, {{"SLURM_NODEID", "3"}}) ==
        "SLURM_STEP_TASKS_PER_NODE: must say the tasks of node 3; got '4(x2),3'");
  for (const char* const wrong : {"", "x", "4(", "4(x", "4(x2", "4(x0)", "0", "-1", "4(x1);3"})
    CHECK(refusal(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", wrong}})
              .starts_with("SLURM_STEP_TASKS_PER_NODE: must "));

  // A batch script and an interactive shell are not steps.
  for (const char* const step : {"-", "4294967291", "4294967290"})
    CHECK(read_rank_environment(with(kSrun, {{"SLURM_STEP_ID", step}})).world_size == 1);
}

TEST_CASE("errors name the variable, the rule and the value") {
  const auto number = [](const char* name, const char* range, const char* got) {
    return concat(name, ": must be a whole number from ", range, "; got '", got, "'");
  };
  for (const char* const wrong : {"8", "-1", "", " 1", "1x", "99999999999"})
    CHECK(refusal(kTorchrun, {{"RANK", wrong}}) == number("RANK", "0 to 7", wrong));
  CHECK(refusal(kTorchrun, {{"WORLD_SIZE", "0"}}) == number("WORLD_SIZE", "1 to 1048576", "0"));
  CHECK(refusal(kTorchrun, {{"LOCAL_RANK", "4"}}) == number("LOCAL_RANK", "0 to 3", "4"));
  CHECK(refusal(kTorchrun, {{"MASTER_PORT", "65535"}}) ==
        number("MASTER_PORT", "1 to 65534", "65535"));
  CHECK(refusal(kTorchrun, {{"LOCAL_WORLD_SIZE", "9"}}) ==
        "LOCAL_WORLD_SIZE: must be at most the number of all ranks, 8; got 9");
  for (const char* const name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"})
    CHECK(refusal(kTorchrun, {{name, "-"}}) ==
          concat(name, ": must be set, since this process is one of several ranks"));
  CHECK(refusal(kTorchrun, {{"MASTER_ADDR", ""}}) ==
        "MASTER_ADDR: must name the host of rank 0; it is empty");
  for (const char* const wrong : {"", "host", "host:", ":1"})
    CHECK(refusal(kTorchrun, {{"SMOE_RDZV_ENDPOINT", wrong}}) ==
          concat("SMOE_RDZV_ENDPOINT: must be host:port; got '", wrong, "'"));
}

TEST_CASE("the ranks of a host divide its cores") {
  RankEnvironment e;
  const int cores = threads_of(e);
  CHECK(cores >= 1);
  e.local_world_size = 2;
  CHECK(threads_of(e) == std::max(1, cores / 2));
  e.local_world_size = 100000;
  CHECK(threads_of(e) == 1);
  e.has_own_cores = true;
  CHECK(threads_of(e) == 1);
  CHECK(threads_of(read_rank_environment(with(kTorchrun, {{"SMOE_THREADS", "7"}}))) == 7);
  CHECK(refusal(kTorchrun, {{"SMOE_THREADS", "0"}}) ==
        "SMOE_THREADS: must be a whole number from 1 to 1024; got '0'");
  CHECK(threads_of(read_rank_environment({{"SMOE_THREADS", "7"}})) == 7);
  CHECK(refusal({}, {{"SMOE_THREADS", "many"}}) ==
        "SMOE_THREADS: must be a whole number from 1 to 1024; got 'many'");
}
