// Attempt: one start of the job's ranks, until all have exited. Signals are forwarded, and when a
// rank fails, all others are stopped within seconds.
#pragma once
#include <optional>

#include "train/launch/local_ranks.h"
#include "train/launch/node_link.h"
#include "train/launch/signal_source.h"

namespace smoe {

/// How the ranks ended: those of all hosts on the first node, those of this host on others.
struct AttemptResult {
  std::vector<JobFailure> failures;  ///< in the order of detection
  bool was_stopped = false;          ///< a signal requested the end
  int exit_code = 0;                 ///< without failures: 0, or 128 + signal after a stop
};

class Attempt {
 public:
  /// `link` is null for a single host.
  Attempt(PollLoop& loop, Console& console, SignalSource& signals, NodeLink* link,
          const LaunchOptions& options);

  /// Starts this host's ranks; returns when all ranks have exited and no process of theirs is left.
  AttemptResult run(const StartPlan& plan);

 private:
  bool is_first_of_several() const { return link_ && options_.node_rank == 0; }
  bool are_running() const;
  Deadline next_deadline() const;
  void run_once();
  void on_signal(int signal);
  void on_message(const NodeLink::Received& received);
  void on_exit(const LocalRanks::RankExit& exit);
  void forward_signal(int signal);
  void begin_shutdown();
  void on_local_failure(const JobFailure& failure);
  void on_failure(const JobFailure& failure);
  void enforce_deadlines();
  void send(const NodeMessage& message);

  PollLoop& loop_;
  Console& console_;
  SignalSource& signals_;
  NodeLink* link_;
  const LaunchOptions& options_;

  std::optional<LocalRanks> ranks_;
  int num_other_nodes_running_ = 0;  // on the first node
  std::vector<JobFailure> failures_;
  int stop_signal_ = 0;                   // the signal that requested the end
  int forwarded_signal_ = 0;              // the signal sent to the ranks for it
  bool has_stopped_ = false;              // a rank stopped because of the signal
  std::optional<Deadline> terminate_at_;  // when to send SIGTERM after a failure
  std::optional<Deadline> kill_at_;
  std::optional<Deadline> give_up_at_;  // after SIGKILL, for processes in uninterruptible calls
  bool is_terminated_ = false;
};

}  // namespace smoe
