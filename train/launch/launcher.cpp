#include "train/launch/launcher.h"

#include <signal.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "core/base/check.h"
#include "core/system/cores.h"
#include "core/system/folder.h"
#include "core/system/format.h"

namespace smoe {
namespace {

constexpr double kFinishSeconds = 5;

}  // namespace

Launcher::Launcher(const LaunchOptions& options) : options_(options) {
  num_ranks_.assign(options.num_nodes, 0);
  num_ranks_[options.node_rank] = options.num_local_ranks;
  if (!options.log_folder.empty()) lock_logs();
  if (is_first() && (options.num_nodes > 1 || options.num_local_ranks > 1)) {
    server_.emplace(RendezvousServer::Options{options.host, options.port, options.job_id});
    options_.port = server_->port();
  }
  if (options.num_nodes > 1) link_.emplace(options_);
}

// The logs have one writer, also where two launches of a run begin at the same time.
void Launcher::lock_logs() {
  make_folders(options_.log_folder);
  logs_ = File::open_append(concat(options_.log_folder, "/launch-", options_.node_rank, ".lock"));
  SMOE_CHECK(logs_.try_lock() != LockResult::held, "launch: another launch writes its logs to ",
             options_.log_folder, "; wait for it, or give the run another name");
}

int Launcher::run() {
  if (link_ && !join()) return 128 + signal_;
  return is_first() ? lead() : follow();
}

// Waits in short intervals, to poll other hosts and signals. Returns false when a signal other than
// SIGCHLD arrives first; it is in signal_.
template <class Done>
bool Launcher::wait_until(const Deadline& deadline, Done&& done) {
  while (!done() && !deadline.has_passed()) {
    loop_.wait(Deadline::in(kPollSeconds));
    for (const int signal : signals_.take())
      if (signal != SIGCHLD) signal_ = signal;
    if (signal_ != 0) return false;
  }
  return true;
}

bool Launcher::join() {
  const Deadline deadline = Deadline::in(options_.join_s);
  const std::string place = concat(options_.host, ":", options_.port);
  bool is_connected = false;
  if (!wait_until(deadline, [&] { return is_connected || (is_connected = link_->try_connect()); }))
    return false;
  if (!is_connected)
    throw SystemError(concat("launch: found no rendezvous for this job at ", place, " within ",
                             options_.join_s, " s; is the launcher of node 0 running there?"));
  if (!is_first()) return true;
  console_.print_line(
      concat("waiting at ", place, " for the launchers of all ", options_.num_nodes, " hosts"));
  return wait_for_nodes(deadline);
}

bool Launcher::wait_for_nodes(const Deadline& deadline) {
  const auto missing = [&] {
    for (std::size_t node = 0; node < num_ranks_.size(); ++node)
      if (num_ranks_[node] == 0) return static_cast<int>(node);
    return 0;
  };
  const auto take_joined = [&] {
    while (const auto received = link_->receive()) {
      const auto& [node, message] = *received;
      SMOE_CHECK(message.kind == NodeMessage::Kind::joined, "launch: node ", node,
                 " left before the start: ", message.failure.line);
      SMOE_CHECK(message.numbers[0] == options_.num_nodes,
                 "launch: the number of hosts must be the same on all of them; got ",
                 options_.num_nodes, " here and ", message.numbers[0], " on node ", node);
      num_ranks_[node] = message.numbers[1];
    }
    return missing() == 0;
  };
  if (!wait_until(deadline, take_joined)) return false;
  if (missing() != 0)
    throw SystemError(concat("launch: node ", missing(), " did not join within ", options_.join_s,
                             " s; is its launcher running?"));
  return true;
}

StartPlan Launcher::plan(int restart_count) const {
  StartPlan plan;
  plan.restart_count = restart_count;
  plan.first_rank = std::accumulate(num_ranks_.begin(), num_ranks_.begin() + options_.node_rank, 0);
  plan.world_size = std::accumulate(num_ranks_.begin(), num_ranks_.end(), 0);
  if (plan.world_size > 1) plan.endpoint = concat(options_.host, ":", options_.port);
  return plan;
}

/// Which ranks are bound to cores, if any should be.
std::string Launcher::binding_text() const {
  if (options_.cores.empty()) return "";
  const auto is_unknown = [](const std::vector<int>& cores) { return cores.empty(); };
  return std::any_of(options_.cores.begin(), options_.cores.end(), is_unknown)
             ? ", not all bound: this machine does not tell the NUMA node of each GPU"
             : ", each rank on the NUMA node of its GPU";
}

void Launcher::announce(const StartPlan& plan) {
  const int cores = num_usable_cores();
  console_.print_line(concat(
      counted(options_.num_local_ranks, "rank"),
      link_ ? concat(" of ", plan.world_size, " on this host, from rank ", plan.first_rank) : "",
      ", on ", counted(cores, "core"), binding_text(),
      options_.log_folder.empty() ? "" : "; logs in " + options_.log_folder));
}

AttemptResult Launcher::start(int restart_count) {
  const StartPlan next = plan(restart_count);
  if (restart_count == 0) announce(next);
  Attempt attempt(loop_, console_, signals_, link_ ? &*link_ : nullptr, options_);
  return attempt.run(next);
}

int Launcher::lead() {
  RestartPolicy policy(options_.max_restarts, options_.saved_step);
  for (int restart_count = 0;; ++restart_count) {
    policy.before_start();
    if (link_) link_->send({.kind = NodeMessage::Kind::start, .numbers = num_ranks_});
    const AttemptResult result = start(restart_count);
    JobFailure failure;
    int exit_code = result.exit_code;
    RestartPolicy::Decision decision;
    if (!result.failures.empty()) {
      failure = cause_of(result.failures, first_failed_rank(restart_count));
      exit_code = failure.exit_code;
      if (!result.was_stopped) decision = policy.after_failure(exit_code);
    }
    if (!decision.restarts) {
      if (link_) announce_finish(exit_code, failure);
      report(failure, decision.reason);
      return exit_code;
    }
    report(failure, "");
    console_.print_line(decision.reason);
  }
}

// Ranks that detect a failure record in the store which rank failed first.
int Launcher::first_failed_rank(int restart_count) const {
  if (!server_) return -1;
  const auto rank = server_->find(concat(restart_count, "/failed_rank"));
  int number = -1;
  if (rank) std::from_chars(rank->data(), rank->data() + rank->size(), number);
  return number;
}

// The rendezvous must be served until all other launchers know that the job has finished.
void Launcher::announce_finish(int exit_code, const JobFailure& failure) {
  link_->send({.kind = NodeMessage::Kind::finish, .numbers = {exit_code}, .failure = failure});
  int num_left = 0;
  wait_until(Deadline::in(kFinishSeconds), [&] {
    while (const auto received = link_->receive())
      num_left += received->message.kind == NodeMessage::Kind::left;
    return num_left == options_.num_nodes - 1;
  });
}

int Launcher::follow() {
  for (int restart_count = 0;; ++restart_count) {
    const std::optional<NodeMessage> order = next_order();
    if (!order) return 128 + signal_;
    if (order->kind == NodeMessage::Kind::finish) {
      link_->send({.kind = NodeMessage::Kind::left});
      report(order->failure, "");
      return order->numbers[0];
    }
    SMOE_CHECK(
        order->numbers.size() == num_ranks_.size() &&
            order->numbers[options_.node_rank] == options_.num_local_ranks,
        "launch: node 0 expects another number of ranks on this host; restart all launchers");
    num_ranks_ = order->numbers;
    start(restart_count);
  }
}

// Waits for `start` or `finish` from the first node. No value when a signal arrives first.
std::optional<NodeMessage> Launcher::next_order() {
  std::optional<NodeMessage> order;
  const auto take = [&] {
    while (!order) {
      auto received = link_->receive();
      if (!received) break;
      const NodeMessage::Kind kind = received->message.kind;
      // Messages that were meant for ranks that have exited are skipped.
      if (kind == NodeMessage::Kind::start || kind == NodeMessage::Kind::finish)
        order = std::move(received->message);
    }
    return order.has_value();
  };
  while (!order)
    if (!wait_until(Deadline::in(kFinishSeconds), take)) return std::nullopt;
  return order;
}

void Launcher::report(const JobFailure& failure, const std::string& reason) {
  console_.error().write(failure.details);
  if (!reason.empty()) console_.print_line(reason);
  if (!failure.line.empty()) console_.print_line(failure.line);
}

}  // namespace smoe
