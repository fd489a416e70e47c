#include "train/launch/attempt.h"

#include <signal.h>

#include <algorithm>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr double kIdleSeconds = 3600;

// After a failure, time for the other ranks to detect it themselves and to report it,
constexpr double kNoticeSeconds = 1;
// and then from SIGTERM to SIGKILL, unless grace_s is shorter.
constexpr double kFailureGraceSeconds = 2.5;

// Time limit for the exit after SIGKILL of a process that is not in an uninterruptible call.
constexpr double kKillSeconds = 5;

// The signal after which a rank saved its work and exited, from its exit code; 0 if there is none.
int signal_of_graceful_exit(const ExitStatus& status) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU})
    if (!status.by_signal && status.number == 128 + signal) return signal;
  return 0;
}

Deadline earlier(const Deadline& a, const std::optional<Deadline>& b) {
  return b && b->at() < a.at() ? *b : a;
}

}  // namespace

Attempt::Attempt(PollLoop& loop, Console& console, SignalSource& signals, NodeLink* link,
                 const LaunchOptions& options)
    : loop_(loop), console_(console), signals_(signals), link_(link), options_(options) {}

AttemptResult Attempt::run(const StartPlan& plan) {
  if (is_first_of_several()) num_other_nodes_running_ = options_.num_nodes - 1;
  try {
    ranks_.emplace(loop_, console_, options_, plan);
  } catch (const SystemError& error) {
    on_local_failure({.line = error.what()});
  }
  while (are_running() || num_other_nodes_running_ > 0) run_once();
  ranks_.reset();
  AttemptResult result{failures_, stop_signal_ != 0, 0};
  if (has_stopped_ || give_up_at_) result.exit_code = 128 + stop_signal_;
  if (options_.node_rank > 0)
    send({.kind = NodeMessage::Kind::ended, .numbers = {result.exit_code}});
  return result;
}

bool Attempt::are_running() const {
  const bool are_given_up = give_up_at_ && give_up_at_->has_passed();
  return ranks_ && !ranks_->all_ended() && !are_given_up;
}

Deadline Attempt::next_deadline() const {
  Deadline next = Deadline::in(link_ ? kPollSeconds : kIdleSeconds);
  if (!are_running()) return next;
  if (!is_terminated_) next = earlier(next, terminate_at_);
  return earlier(next, give_up_at_ ? give_up_at_ : kill_at_);
}

void Attempt::run_once() {
  loop_.wait(next_deadline());
  for (const int signal : signals_.take()) {
    if (signal != SIGCHLD) on_signal(signal);
  }
  // Not only on SIGCHLD: several pending ones are merged.
  if (ranks_)
    for (const LocalRanks::RankExit& exit : ranks_->collect_exits()) on_exit(exit);
  if (link_)
    while (const auto received = link_->receive()) on_message(*received);
  enforce_deadlines();
}

void Attempt::on_signal(int signal) {
  if (stop_signal_ == 0) {
    console_.print_line(concat(name_of_signal(signal), ": asking the ranks to stop; they have ",
                               options_.grace_s, " s"));
    send({.kind = NodeMessage::Kind::signal, .numbers = {signal}});
    return forward_signal(signal);
  }
  if (give_up_at_) return;
  console_.print_line(concat("a second signal, ", name_of_signal(signal), ": killing the ranks"));
  kill_at_ = Deadline::in(0);
  if (is_first_of_several()) send({.kind = NodeMessage::Kind::stop});
}

void Attempt::on_message(const NodeLink::Received& received) {
  const NodeMessage& message = received.message;
  switch (message.kind) {
    case NodeMessage::Kind::signal:
      if (stop_signal_ != 0) return;
      if (is_first_of_several()) send(message);
      return forward_signal(message.numbers[0]);
    case NodeMessage::Kind::failed:
      return on_failure(message.failure);
    case NodeMessage::Kind::ended:
      --num_other_nodes_running_;
      has_stopped_ |= message.numbers[0] != 0 && stop_signal_ != 0;
      return;
    case NodeMessage::Kind::stop:
      return begin_shutdown();
    default:
      throw UsageError(concat("launch: node ", received.node, " sent an unexpected message"));
  }
}

void Attempt::forward_signal(int signal) {
  stop_signal_ = signal;
  // A rank that was started with SIGHUP ignored would not stop.
  forwarded_signal_ = signal == SIGHUP ? SIGTERM : signal;
  if (ranks_) ranks_->send(forwarded_signal_);
  kill_at_ = earlier(Deadline::in(options_.grace_s), kill_at_);
}

void Attempt::on_exit(const LocalRanks::RankExit& exit) {
  if (exit.status.is_success()) return;
  // A process that crashed may take longer to end, as with much memory or a GPU, than the ranks
  // that lost it.
  const bool has_crashed = exit.status.by_signal && exit.status.number != SIGTERM;
  if (give_up_at_ || (is_terminated_ && !has_crashed)) return;  // caused by the launcher
  const int graceful = signal_of_graceful_exit(exit.status);
  const bool was_requested = exit.status.by_signal ? exit.status.number == forwarded_signal_
                                                   : graceful != 0 && graceful == forwarded_signal_;
  if (stop_signal_ == 0 && graceful != 0 && failures_.empty()) {
    console_.print_line(concat("rank ", exit.rank, " was sent ", name_of_signal(graceful),
                               " and has stopped; waiting for the others"));
    stop_signal_ = forwarded_signal_ = graceful;
    kill_at_ = Deadline::in(options_.grace_s);
  } else if (!was_requested) {
    return on_local_failure(describe(ranks_->failure_of(exit)));
  }
  has_stopped_ = true;
}

void Attempt::on_local_failure(const JobFailure& failure) {
  if (options_.node_rank > 0) send({.kind = NodeMessage::Kind::failed, .failure = failure});
  on_failure(failure);
}

void Attempt::on_failure(const JobFailure& failure) {
  failures_.push_back(failure);
  if (failures_.size() > 1) return;
  begin_shutdown();
  if (is_first_of_several()) send({.kind = NodeMessage::Kind::stop});
}

void Attempt::begin_shutdown() {
  if (terminate_at_) return;
  terminate_at_ = Deadline::in(kNoticeSeconds);
  kill_at_ = earlier(
      Deadline::in(kNoticeSeconds + std::min(options_.grace_s, kFailureGraceSeconds)), kill_at_);
}

void Attempt::enforce_deadlines() {
  if (!are_running()) return;
  if (terminate_at_ && terminate_at_->has_passed() && !std::exchange(is_terminated_, true))
    ranks_->send(SIGTERM);
  if (!kill_at_ || !kill_at_->has_passed() || give_up_at_) return;
  console_.print_line(
      concat("killing rank ", ranks_->running_names(), ", which did not exit in time"));
  ranks_->kill();
  give_up_at_ = Deadline::in(kKillSeconds);
}

// Does nothing on a single host.
void Attempt::send(const NodeMessage& message) {
  if (link_) link_->send(message);
}

}  // namespace smoe
