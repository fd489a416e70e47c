#include "train/launch/rank_environment.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "core/base/check.h"
#include "core/system/cores.h"

namespace smoe {
namespace {

constexpr int kMaxRanks = 1 << 20;

// Ports derived from the job id: above those of well-known services and below the ephemeral ports
// (from 32768).
constexpr int kFirstJobPort = 15000, kNumJobPorts = 15000;

class Variables {
 public:
  explicit Variables(const std::map<std::string, std::string>& values) : values_(values) {}

  const std::string* find(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? nullptr : &found->second;
  }

  std::string text(const std::string& name) const {
    const std::string* value = find(name);
    return value ? *value : "";
  }

  /// Parses an integer in [min, max]; returns `if_unset`, or throws without it, when the variable
  /// is not set.
  int number(const std::string& name, int min, int max, std::optional<int> if_unset = {}) const {
    const std::string* value = find(name);
    if (!value) {
      SMOE_CHECK(if_unset, name, ": must be set, since this process is one of several ranks");
      return *if_unset;
    }
    int result = 0;
    const char* const end = value->data() + value->size();
    const auto [stop, error] = std::from_chars(value->data(), end, result);
    SMOE_CHECK(error == std::errc() && stop == end && result >= min && result <= max, name,
               ": must be a whole number from ", min, " to ", max, "; got '", *value, "'");
    return result;
  }

 private:
  const std::map<std::string, std::string>& values_;
};

// Parses Slurm's tasks per node: "4(x2),3" means 4, 4 and 3 tasks.
int tasks_of_node(const std::string& name, const std::string& counts, int node) {
  const char* at = counts.data();
  const char* const end = at + counts.size();
  const auto read = [&](int& number) {
    const auto [stop, error] = std::from_chars(at, end, number);
    at = stop;
    return error == std::errc() && number > 0;
  };
  const auto skip = [&](char c) { return at < end && *at == c && ++at; };
  int first = 0;
  while (true) {
    int tasks = 0, nodes = 1;
    const bool is_well_formed =
        read(tasks) && (!skip('(') || (skip('x') && read(nodes) && skip(')')));
    SMOE_CHECK(is_well_formed, name, ": must be the tasks of each node, like 4(x2),3; got '",
               counts, "'");
    if (node - first < nodes) return tasks;
    first += nodes;
    SMOE_CHECK(skip(','), name, ": must say the tasks of node ", node, "; got '", counts, "'");
  }
}

std::uint32_t hash_of(const std::string& text) {  // FNV-1a
  std::uint32_t hash = 2166136261u;
  for (const unsigned char c : text) hash = (hash ^ c) * 16777619u;
  return hash;
}

std::string with_port(const std::string& host, int port) {
  const bool is_bare_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return (is_bare_ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

void check_place(const RankEnvironment& e, const char* local_size_name) {
  SMOE_CHECK(e.local_world_size <= e.world_size, local_size_name,
             ": must be at most the number of all ranks, ", e.world_size, "; got ",
             e.local_world_size);
}

// Whether the job id differs from those of other jobs, so that a port can be derived from it.
enum class JobId { may_repeat, unique };

// Sets the rendezvous endpoint; what the user sets takes precedence over what is derived from the
// job.
void choose_endpoint(const Variables& variables, JobId id, RankEnvironment& e) {
  if (const std::string* own_id = variables.find("SMOE_JOB_ID")) e.job_id = *own_id;
  if (e.world_size == 1) return;
  e.is_host = e.rank == 0 && variables.text("SMOE_RDZV_SERVED") != "1";
  if (const std::string* endpoint = variables.find("SMOE_RDZV_ENDPOINT")) {
    const std::size_t colon = endpoint->rfind(':');
    SMOE_CHECK(colon != std::string::npos && colon > 0 && colon + 1 < endpoint->size(),
               "SMOE_RDZV_ENDPOINT: must be host:port; got '", *endpoint, "'");
    e.endpoint = *endpoint;
    return;
  }
  const std::string host =
      variables.find("MASTER_ADDR") || e.local_world_size < e.world_size || id == JobId::may_repeat
          ? variables.text("MASTER_ADDR")
          : "127.0.0.1";
  SMOE_CHECK(!host.empty(), "MASTER_ADDR: must name the host of rank 0; it is ",
             variables.find("MASTER_ADDR") ? "empty" : "not set");
  const int port = variables.find("MASTER_PORT") || id == JobId::may_repeat
                       ? variables.number("MASTER_PORT", 1, 65534) + 1
                       : kFirstJobPort + static_cast<int>(hash_of(e.job_id) % kNumJobPorts);
  e.endpoint = with_port(host, port);
}

RankEnvironment read_torchrun(const Variables& variables) {
  RankEnvironment e;
  e.world_size = variables.number("WORLD_SIZE", 1, kMaxRanks);
  e.rank = variables.number("RANK", 0, e.world_size - 1);
  // Without local variables, as when set by hand, each host runs one rank.
  if (variables.find("LOCAL_RANK") || variables.find("LOCAL_WORLD_SIZE")) {
    e.local_world_size = variables.number("LOCAL_WORLD_SIZE", 1, kMaxRanks);
    check_place(e, "LOCAL_WORLD_SIZE");
    e.local_rank = variables.number("LOCAL_RANK", 0, e.local_world_size - 1);
  }
  e.node_rank = variables.number("GROUP_RANK", 0, kMaxRanks, e.rank / e.local_world_size);
  e.restart_count = variables.number("TORCHELASTIC_RESTART_COUNT", 0, kMaxRanks, 0);
  e.job_id = variables.text("TORCHELASTIC_RUN_ID");
  return e;
}

RankEnvironment read_mpirun(const Variables& variables) {
  RankEnvironment e;
  e.world_size = variables.number("OMPI_COMM_WORLD_SIZE", 1, kMaxRanks);
  e.rank = variables.number("OMPI_COMM_WORLD_RANK", 0, e.world_size - 1);
  e.local_world_size = variables.number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, kMaxRanks);
  check_place(e, "OMPI_COMM_WORLD_LOCAL_SIZE");
  e.local_rank = variables.number("OMPI_COMM_WORLD_LOCAL_RANK", 0, e.local_world_size - 1);
  e.node_rank = e.rank / e.local_world_size;
  e.has_own_cores = true;
  for (const char* const name : {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"})
    if (e.job_id.empty()) e.job_id = variables.text(name);
  return e;
}

RankEnvironment read_srun(const Variables& variables) {
  RankEnvironment e;
  const char* const size =
      variables.find("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  e.world_size = variables.number(size, 1, kMaxRanks);
  e.rank = variables.number("SLURM_PROCID", 0, e.world_size - 1);
  e.node_rank = variables.number("SLURM_NODEID", 0, e.world_size - 1);
  const char* const tasks = variables.find("SLURM_STEP_TASKS_PER_NODE")
                                ? "SLURM_STEP_TASKS_PER_NODE"
                                : "SLURM_TASKS_PER_NODE";
  e.local_world_size = tasks_of_node(tasks, variables.text(tasks), e.node_rank);
  check_place(e, tasks);
  e.local_rank = variables.number("SLURM_LOCALID", 0, e.local_world_size - 1);
  e.has_own_cores = true;
  e.job_id = variables.text("SLURM_JOB_ID") + "." + variables.text("SLURM_STEP_ID");
  return e;
}

// The batch script and the shell of an allocation have SLURM_PROCID=0 too, but no step id or one of
// Slurm's reserved ones, the highest 32-bit numbers.
bool is_slurm_step(const Variables& variables) {
  const std::string* step = variables.find("SLURM_STEP_ID");
  if (!step || !variables.find("SLURM_PROCID")) return false;
  std::uint64_t number = 0;
  std::from_chars(step->data(), step->data() + step->size(), number);
  return number < 0xfffffff0u;
}

}  // namespace

RankEnvironment read_rank_environment(const std::map<std::string, std::string>& values) {
  const Variables variables(values);
  RankEnvironment e;
  JobId id = JobId::unique;
  const bool is_alone = !variables.find("WORLD_SIZE") || variables.text("WORLD_SIZE") == "1";
  if (variables.find("RANK") || !is_alone) {
    e = read_torchrun(variables);
    id = JobId::may_repeat;  // torchrun's default job id is "none"
  } else if (variables.find("OMPI_COMM_WORLD_RANK")) {
    e = read_mpirun(variables);
  } else if (is_slurm_step(variables)) {
    e = read_srun(variables);
  }
  e.threads = variables.number("SMOE_THREADS", 1, 1024, 0);
  choose_endpoint(variables, id, e);
  return e;
}

RankEnvironment read_rank_environment() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos) variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return read_rank_environment(variables);
}

int threads_of(const RankEnvironment& environment) {
  if (environment.threads > 0) return environment.threads;
  const int usable = num_usable_cores();
  if (!environment.has_own_cores) return std::max(1, usable / environment.local_world_size);
  // It may be bound to cores, to a socket shared with other ranks, or not at all; the equal share
  // of the host's cores is the upper bound.
  const auto all = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, std::min(usable, all / environment.local_world_size));
}

}  // namespace smoe
