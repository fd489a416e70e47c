// One start of the job's ranks, seen to its end: signals are passed on, and when a rank fails, all
// others end within seconds.
#pragma once
#include <optional>

#include "train/launch/local_ranks.h"
#include "train/launch/node_link.h"
#include "train/launch/signal_source.h"

namespace smoe {

/// How the ranks of all hosts ended; of other hosts than the first, those of this host.
struct AttemptResult {
  std::vector<JobFailure> failures;  ///< in the order in which they were noticed
  bool was_asked_to_stop = false;    ///< by a signal
  int exit_code = 0;                 ///< without failures: 0, or 128 + signal after a stop
};

class Attempt {
 public:
  /// `link`: null on a single host.
  Attempt(PollLoop& loop, Console& console, SignalSource& signals, NodeLink* link,
          const LaunchOptions& options);

  /// Starts this host's ranks and returns when all ranks have ended and nothing of theirs is left.
  AttemptResult run(const StartPlan& plan);

 private:
  bool is_first_of_several() const { return link_ && options_.node_rank == 0; }
  bool are_running() const;
  Deadline next_deadline() const;
  void turn();
  void take_signal(int signal);
  void take_message(const NodeLink::Received& received);
  void take_ended(const LocalRanks::Ended& ended);
  void ask_to_stop(int signal);
  void expect_end();
  void fail_here(const JobFailure& failure);
  void take_failure(const JobFailure& failure);
  void keep_deadlines();
  void tell(const NodeMessage& message);

  PollLoop& loop_;
  Console& console_;
  SignalSource& signals_;
  NodeLink* link_;
  const LaunchOptions& options_;

  std::optional<LocalRanks> ranks_;
  int num_other_nodes_running_ = 0;  // on the first node
  std::vector<JobFailure> failures_;
  int stop_signal_ = 0;                   // that asked for the end
  int forwarded_signal_ = 0;              // that the ranks were sent for it
  bool has_stopped_ = false;              // a rank ended as it was asked to
  std::optional<Deadline> terminate_at_;  // SIGTERM after a failure
  std::optional<Deadline> kill_at_;
  std::optional<Deadline> give_up_at_;  // after SIGKILL, on processes that the system holds
  bool is_terminated_ = false;
};

}  // namespace smoe
