// LocalRanks: the rank processes of this host during one attempt.
#pragma once
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "train/launch/console.h"
#include "train/launch/launch_options.h"
#include "train/launch/process_group.h"
#include "train/launch/rank_failure.h"
#include "train/launch/rank_output.h"

namespace smoe {

/// The parameters of one start of the job.
struct StartPlan {
  int restart_count = 0;
  int first_rank = 0;    ///< first rank of this host
  int world_size = 1;    ///< ranks of all hosts
  std::string endpoint;  ///< rendezvous address; empty for a single rank
};

/// The environment variables for rank `local_rank` of this host: those of torchrun, and SMOE_
/// variables for the rendezvous and the number of threads.
std::map<std::string, std::string> rank_variables(const LaunchOptions& options,
                                                  const StartPlan& plan, int local_rank);

class LocalRanks {
 public:
  /// Starts all ranks. Throws: SystemError when one cannot be started; then none runs.
  LocalRanks(PollLoop& loop, Console& console, const LaunchOptions& options, const StartPlan& plan);
  ~LocalRanks();
  LocalRanks(const LocalRanks&) = delete;
  LocalRanks& operator=(const LocalRanks&) = delete;

  /// Collects the processes that exited since the last call; to be called on SIGCHLD. Returns the
  /// ranks among them, likely causes first: those killed by a signal precede others.
  struct RankExit {
    int rank;
    ExitStatus status;
  };
  std::vector<RankExit> collect_exits();

  bool all_ended() const { return num_running_ == 0; }
  /// Ranks that have not exited: "1, 3 and 4".
  std::string running_names() const;
  /// Describes the failure of a rank that exited.
  RankFailure failure_of(const RankExit& ended) const;

  /// Sends a signal to each rank that has not exited.
  void send(int signal) const;
  /// Kills the ranks and all processes that they started.
  void kill() const;

 private:
  struct Rank {
    int local_rank = 0;
    pid_t pid = 0;
    std::optional<ExitStatus> status;
    std::optional<RankOutput> output;
  };
  void start(int local_rank);
  Rank* find(pid_t pid);
  void report_stop(const Rank& rank, int status) const;

  PollLoop& loop_;
  Console& console_;
  const LaunchOptions& options_;
  StartPlan plan_;
  ProcessGroup group_;
  std::list<Rank> ranks_;
  int num_running_ = 0;
};

}  // namespace smoe
