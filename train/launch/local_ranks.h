// The ranks of this host, from one start of the job to its end.
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

/// What a start of the job decides for all hosts.
struct StartPlan {
  int restart_count = 0;
  int first_rank = 0;    ///< of this host
  int world_size = 1;    ///< ranks of all hosts
  std::string endpoint;  ///< of the rendezvous; empty for a single rank
};

/// The variables by which rank `local_rank` of this host learns its place: those of torchrun, and
/// ours for the rendezvous and the number of threads.
std::map<std::string, std::string> rank_variables(const LaunchOptions& options,
                                                  const StartPlan& plan, int local_rank);

class LocalRanks {
 public:
  /// Starts all of them. Throws: SystemError when one cannot be started; none runs then.
  LocalRanks(PollLoop& loop, Console& console, const LaunchOptions& options, const StartPlan& plan);
  ~LocalRanks();
  LocalRanks(const LocalRanks&) = delete;
  LocalRanks& operator=(const LocalRanks&) = delete;

  /// Collects the processes that ended since the last call; to be called on SIGCHLD. Returns the
  /// ranks that ended, in the order of which caused which: those that a signal killed come first.
  struct Ended {
    int rank;
    Ending ending;
  };
  std::vector<Ended> collect();

  bool all_ended() const { return num_running_ == 0; }
  /// Ranks that have not ended, "1, 3 and 4".
  std::string running_names() const;
  /// What is known of a rank that ended.
  RankFailure failure_of(const Ended& ended) const;

  /// Sends a signal to each rank that has not ended.
  void send(int signal) const;
  /// Kills the ranks and all that they started.
  void kill() const;

 private:
  struct Rank {
    int local_rank = 0;
    pid_t pid = 0;
    std::optional<Ending> ending;
    std::optional<RankOutput> output;
  };
  void start(int local_rank);
  Rank* find(pid_t pid);
  void note_stop(const Rank& rank, int status) const;

  PollLoop& loop_;
  Console& console_;
  const LaunchOptions& options_;
  StartPlan plan_;
  ProcessGroup group_;
  std::list<Rank> ranks_;
  int num_running_ = 0;
};

}  // namespace smoe
