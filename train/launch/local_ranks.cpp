#include "train/launch/local_ranks.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <optional>

#include "core/base/check.h"
#include "core/system/cores.h"

namespace smoe {
namespace {

// How the console shows a stream: rank 0, whose output is that of the job, unchanged; teed streams
// as prefixed lines.
ConsoleMode console_mode(int rank, bool is_teed, bool is_redirected) {
  if (is_redirected) return ConsoleMode::none;
  if (is_teed) return ConsoleMode::prefixed_lines;
  return rank == 0 ? ConsoleMode::raw : ConsoleMode::none;
}

}  // namespace

std::map<std::string, std::string> rank_variables(const LaunchOptions& options,
                                                  const StartPlan& plan, int local_rank) {
  const auto text = [](auto number) { return std::to_string(number); };
  const std::string rank = text(plan.first_rank + local_rank), world = text(plan.world_size);
  const std::string threads =
      text(std::clamp(num_usable_cores() / options.num_local_ranks, 1, 1024));
  std::map<std::string, std::string> variables = {
      {"RANK", rank},
      {"LOCAL_RANK", text(local_rank)},
      {"WORLD_SIZE", world},
      {"LOCAL_WORLD_SIZE", text(options.num_local_ranks)},
      {"GROUP_RANK", text(options.node_rank)},
      {"GROUP_WORLD_SIZE", text(options.num_nodes)},
      {"ROLE_NAME", "default"},
      {"ROLE_RANK", rank},
      {"ROLE_WORLD_SIZE", world},
      {"TORCHELASTIC_RUN_ID", options.job_id},
      {"TORCHELASTIC_RESTART_COUNT", text(plan.restart_count)},
      {"TORCHELASTIC_MAX_RESTARTS", text(options.max_restarts.value_or(0))},
      {"SMOE_JOB_ID", options.job_id},
      {"SMOE_THREADS", threads},
  };
  if (!::getenv("OMP_NUM_THREADS")) variables["OMP_NUM_THREADS"] = threads;
  if (plan.endpoint.empty()) return variables;
  const std::size_t colon = plan.endpoint.rfind(':');
  variables["MASTER_ADDR"] = plan.endpoint.substr(0, colon);
  variables["MASTER_PORT"] = plan.endpoint.substr(colon + 1);
  variables["SMOE_RDZV_ENDPOINT"] = plan.endpoint;
  variables["SMOE_RDZV_SERVED"] = "1";
  return variables;
}

LocalRanks::LocalRanks(PollLoop& loop, Console& console, const LaunchOptions& options,
                       const StartPlan& plan)
    : loop_(loop), console_(console), options_(options), plan_(plan) {
  for (int i = 0; i < options.num_local_ranks; ++i) start(i);
}

LocalRanks::~LocalRanks() {
  const bool are_all_dead = group_.kill_all();
  try {
    if (!are_all_dead)
      console_.print_line(
          "some processes did not exit after SIGKILL; they are in uninterruptible system calls");
    for (Rank& rank : ranks_)
      if (rank.output) rank.output->finish();
  } catch (const std::exception&) {  // the last lines of output are lost
  }
}

void LocalRanks::start(int local_rank) {
  ProgramCall call{options_.program, options_.arguments,
                   rank_variables(options_, plan_, local_rank)};
  if (plan_.restart_count > 0)
    call.arguments.insert(call.arguments.end(), options_.restart_arguments.begin(),
                          options_.restart_arguments.end());
  const int number = plan_.first_rank + local_rank;
  const StreamPair tee = options_.tee.of(local_rank);
  const StreamPair hidden = options_.redirects.of(local_rank);
  const std::string log =
      options_.log_folder.empty() ? "" : concat(options_.log_folder, "/rank-", number, ".log");
  std::optional<CoreBinding> binding;  // which the child inherits
  if (!options_.cores.empty()) binding.emplace(options_.cores[local_rank]);
  Child child = group_.start(call);
  binding.reset();
  Rank& rank = ranks_.emplace_back();
  rank.local_rank = local_rank;
  rank.pid = child.pid;
  ++num_running_;
  rank.output.emplace(loop_, console_,
                      RankOutput::Options{number, log, options_.max_log_bytes,
                                          console_mode(number, tee.output, hidden.output),
                                          console_mode(number, tee.error, hidden.error)},
                      child);
}

LocalRanks::Rank* LocalRanks::find(pid_t pid) {
  const auto found =
      std::find_if(ranks_.begin(), ranks_.end(), [&](const Rank& r) { return r.pid == pid; });
  return found == ranks_.end() ? nullptr : &*found;
}

std::vector<LocalRanks::RankExit> LocalRanks::collect_exits() {
  std::vector<RankExit> ended;
  int status = 0;
  while (const pid_t pid = ::waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) {
    if (pid < 0) break;
    Rank* rank = find(pid);
    if (!rank) continue;  // an orphaned descendant of a rank, or the guard
    if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
      report_stop(*rank, status);
      continue;
    }
    rank->status = ExitStatus::of_wait_status(status);
    rank->output->drain_all();
    --num_running_;
    ended.push_back({plan_.first_rank + rank->local_rank, *rank->status});
  }
  std::sort(ended.begin(), ended.end(), [](const RankExit& a, const RankExit& b) {
    return a.status.by_signal != b.status.by_signal ? a.status.by_signal : a.rank < b.rank;
  });
  return ended;
}

void LocalRanks::report_stop(const Rank& rank, int status) const {
  const int number = plan_.first_rank + rank.local_rank;
  if (WIFSTOPPED(status))
    console_.print_line(concat("rank ", number, " (pid ", rank.pid, ") was stopped by ",
                               name_of_signal(WSTOPSIG(status)),
                               "; the other ranks wait for it until their timeout"));
  else
    console_.print_line(concat("rank ", number, " (pid ", rank.pid, ") has resumed"));
}

std::string LocalRanks::running_names() const {
  std::string names;
  int left = num_running_;
  for (const Rank& rank : ranks_) {
    if (rank.status) continue;
    names += std::to_string(plan_.first_rank + rank.local_rank);
    if (--left > 0) names += left == 1 ? " and " : ", ";
  }
  return names;
}

RankFailure LocalRanks::failure_of(const RankExit& ended) const {
  const int local_rank = ended.rank - plan_.first_rank;
  const auto rank = std::find_if(ranks_.begin(), ranks_.end(),
                                 [&](const Rank& r) { return r.local_rank == local_rank; });
  SMOE_INTERNAL_CHECK(rank != ranks_.end(), "launch: no such rank: ", ended.rank);
  return {ended.rank,
          local_rank,
          host_name(),
          rank->pid,
          ended.status,
          rank->output->error_line(),
          rank->output->log_path(),
          rank->output->is_fully_shown() ? std::deque<std::string>()
                                         : rank->output->last_lines().lines()};
}

void LocalRanks::send(int signal) const {
  for (const Rank& rank : ranks_)
    if (!rank.status) ::kill(rank.pid, signal);
}

void LocalRanks::kill() const {
  send(SIGKILL);
  group_.kill();
}

}  // namespace smoe
