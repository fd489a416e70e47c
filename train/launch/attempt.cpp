#include "train/launch/attempt.h"

#include <signal.h>

#include <algorithm>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr double kTickSeconds = 0.2;  // how often other hosts are listened to
constexpr double kIdleSeconds = 3600;

// After a failure the others get this long to notice it by themselves and to say so,
constexpr double kNoticeSeconds = 1;
// and then this long from SIGTERM to SIGKILL, unless --grace is shorter.
constexpr double kFailureGraceSeconds = 2.5;

// Within which SIGKILL ends a process that no system call holds.
constexpr double kKillSeconds = 5;

// A rank that ends by itself after a signal, its work saved, says so by its exit code.
int signal_of_polite_exit(const Ending& ending) {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1})
    if (!ending.by_signal && ending.number == 128 + signal) return signal;
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
    fail_here({.line = error.what()});
  }
  while (are_running() || num_other_nodes_running_ > 0) turn();
  ranks_.reset();
  AttemptResult result{failures_, stop_signal_ != 0, 0};
  if (has_stopped_ || give_up_at_) result.exit_code = 128 + stop_signal_;
  if (options_.node_rank > 0)
    tell({.kind = NodeMessage::Kind::ended, .numbers = {result.exit_code}});
  return result;
}

bool Attempt::are_running() const {
  const bool are_given_up = give_up_at_ && give_up_at_->has_passed();
  return ranks_ && !ranks_->all_ended() && !are_given_up;
}

Deadline Attempt::next_deadline() const {
  Deadline next = Deadline::in(link_ ? kTickSeconds : kIdleSeconds);
  if (!are_running()) return next;
  if (!is_terminated_) next = earlier(next, terminate_at_);
  return earlier(next, give_up_at_ ? give_up_at_ : kill_at_);
}

void Attempt::turn() {
  loop_.wait(next_deadline());
  for (const int signal : signals_.take()) {
    if (signal != SIGCHLD) take_signal(signal);
  }
  // Not only on SIGCHLD, of which several may have become one.
  if (ranks_)
    for (const LocalRanks::Ended& ended : ranks_->collect()) take_ended(ended);
  if (link_)
    while (const auto received = link_->receive()) take_message(*received);
  keep_deadlines();
}

void Attempt::take_signal(int signal) {
  if (stop_signal_ == 0) {
    console_.say(concat(name_of_signal(signal), ": asking the ranks to stop; they have ",
                        options_.grace_s, " s"));
    tell({.kind = NodeMessage::Kind::signal, .numbers = {signal}});
    return ask_to_stop(signal);
  }
  if (give_up_at_) return;
  console_.say(concat("a second signal, ", name_of_signal(signal), ": killing the ranks"));
  kill_at_ = Deadline::in(0);
  if (is_first_of_several()) tell({.kind = NodeMessage::Kind::stop});
}

void Attempt::take_message(const NodeLink::Received& received) {
  const NodeMessage& message = received.message;
  switch (message.kind) {
    case NodeMessage::Kind::signal:
      if (stop_signal_ != 0) return;
      if (is_first_of_several()) tell(message);
      return ask_to_stop(message.numbers[0]);
    case NodeMessage::Kind::failed:
      return take_failure(message.failure);
    case NodeMessage::Kind::ended:
      --num_other_nodes_running_;
      has_stopped_ |= message.numbers[0] != 0 && stop_signal_ != 0;
      return;
    case NodeMessage::Kind::stop:
      return expect_end();
    default:
      throw UsageError(concat("launch: node ", received.node, " sent an unexpected message"));
  }
}

void Attempt::ask_to_stop(int signal) {
  stop_signal_ = signal;
  // A closed terminal shall not cost a step: ranks save upon SIGTERM, but SIGHUP would end them.
  forwarded_signal_ = signal == SIGHUP ? SIGTERM : signal;
  if (ranks_) ranks_->send(forwarded_signal_);
  kill_at_ = earlier(Deadline::in(options_.grace_s), kill_at_);
}

void Attempt::take_ended(const LocalRanks::Ended& ended) {
  if (ended.ending.is_success()) return;
  if (is_terminated_ || give_up_at_) return;  // it was our doing
  const int polite = signal_of_polite_exit(ended.ending);
  const bool was_asked = ended.ending.by_signal ? ended.ending.number == forwarded_signal_
                                                : polite != 0 && polite == forwarded_signal_;
  if (stop_signal_ == 0 && polite != 0 && failures_.empty()) {
    console_.say(concat("rank ", ended.rank, " was sent ", name_of_signal(polite),
                        " and has stopped; waiting for the others"));
    stop_signal_ = forwarded_signal_ = polite;
    kill_at_ = Deadline::in(options_.grace_s);
  } else if (!was_asked) {
    return fail_here(describe(ranks_->failure_of(ended)));
  }
  has_stopped_ = true;
}

void Attempt::fail_here(const JobFailure& failure) {
  if (options_.node_rank > 0) tell({.kind = NodeMessage::Kind::failed, .failure = failure});
  take_failure(failure);
}

void Attempt::take_failure(const JobFailure& failure) {
  failures_.push_back(failure);
  if (failures_.size() > 1) return;
  expect_end();
  if (is_first_of_several()) tell({.kind = NodeMessage::Kind::stop});
}

void Attempt::expect_end() {
  if (terminate_at_) return;
  terminate_at_ = Deadline::in(kNoticeSeconds);
  kill_at_ = earlier(
      Deadline::in(kNoticeSeconds + std::min(options_.grace_s, kFailureGraceSeconds)), kill_at_);
}

void Attempt::keep_deadlines() {
  if (!are_running()) return;
  if (terminate_at_ && terminate_at_->has_passed() && !std::exchange(is_terminated_, true))
    ranks_->send(SIGTERM);
  if (!kill_at_ || !kill_at_->has_passed() || give_up_at_) return;
  console_.say(concat("killing rank ", ranks_->running_names(), ", which did not end in time"));
  ranks_->kill();
  give_up_at_ = Deadline::in(kKillSeconds);
}

// What is said to nobody on a single host.
void Attempt::tell(const NodeMessage& message) {
  if (link_) link_->send(message);
}

}  // namespace smoe
