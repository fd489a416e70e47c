// Launcher: starts the ranks of a job on this host, together with the launchers of its other hosts,
// supervises them, restarts them after a failure and reports its cause.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "core/distributed/rendezvous_server.h"
#include "core/system/file.h"
#include "train/launch/attempt.h"
#include "train/launch/restart_policy.h"

namespace smoe {

class Launcher {
 public:
  /// Handles this process's signals from here on; on the first node, serves the rendezvous.
  /// Throws: UsageError when another launcher writes logs in the same folder; SystemError when the
  /// port is in use.
  explicit Launcher(const LaunchOptions& options);

  /// Returns the exit code: 0, that of the first rank that failed, or 128 + signal when a signal
  /// ended the job or that rank.
  /// Throws: SystemError when a host does not join in time, or the first one is lost.
  int run();

 private:
  void lock_logs();
  bool is_first() const { return options_.node_rank == 0; }
  bool join();
  bool wait_for_nodes(const Deadline& deadline);
  template <class Done>
  bool wait_until(const Deadline& deadline, Done&& done);

  StartPlan plan(int restart_count) const;
  std::string binding_text() const;
  void announce(const StartPlan& plan);
  AttemptResult start(int restart_count);
  int lead();
  int follow();
  std::optional<NodeMessage> next_order();
  int first_failed_rank(int restart_count) const;
  void announce_finish(int exit_code, const JobFailure& failure);
  void report(const JobFailure& failure, const std::string& reason);

  LaunchOptions options_;
  File logs_;  // locked
  PollLoop loop_;
  Console console_{loop_};
  SignalSource signals_{loop_};  // before the server, whose thread must not receive signals
  std::optional<RendezvousServer> server_;
  std::optional<NodeLink> link_;
  std::vector<int> num_ranks_;  // by node
  int signal_ = 0;              // that ended the wait for other hosts
};

}  // namespace smoe
