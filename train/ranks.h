// Ranks: this process's membership in a job of several ranks that train one model: joining,
// agreeing before the first step that all mean the same run, and telling the others why one cannot
// go on.
//
// In the store, below the number of restarts: facts (of rank 0), compared (how many ranks have),
// refusal (the first difference), failures, failed_rank and failure (the first one and its
// message).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/distributed/communicator.h"
#include "core/distributed/rendezvous_server.h"
#include "core/distributed/rendezvous_store.h"
#include "train/launch/rank_environment.h"

namespace smoe {

/// Something that must be the same on all ranks.
struct Fact {
  std::string key;
  std::string value;
};

class Ranks {
 public:
  /// The only rank.
  Ranks() = default;
  static Ranks& single();
  /// Joins the job; serves its store where no launcher does. `timeout_s`: how long ranks wait for
  /// each other, parallel.timeout_s: 0 stands for 300 s until steps are timed and while one saves,
  /// and for 20 times the median of the last steps, but at least 60 s, then.
  /// Throws: SystemError, UsageError.
  Ranks(const RankEnvironment& place, std::int64_t timeout_s);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return place_.rank; }
  int world_size() const { return place_.world_size; }
  bool is_first() const { return rank() == 0; }
  bool are_several() const { return world_size() > 1; }

  /// Compares the facts, which all ranks list in one order, with those of rank 0, and connects the
  /// communicator. To be called once, by all.
  /// Throws: UsageError, the same on all ranks, naming the first key that differs on any, both
  /// values and whose they are; SystemError naming the ranks that did not come in time.
  void join(const std::vector<Fact>& facts);
  /// After join(); before, that of a single rank.
  Communicator& communicator() { return several_ ? *several_ : single_communicator(); }

  /// What rank 0 says, on all ranks. All must call it.
  std::string from_first(const std::string& text);
  /// The first rank's signal that got one, 0 if none did. All must call it.
  int agree_on_signal(int own);

  /// Says which step is under way, for messages.
  void begin_step(std::int64_t step) { step_ = step; }
  /// Says what a step took, by which the time to wait for others is measured.
  void step_took(double seconds);
  /// For what takes longer than steps do; the next step_took ends it.
  void expect_long_wait();

  /// Returns when all ranks have called it: the end of a run that went well.
  void leave() { communicator().barrier()->wait(); }
  /// To be called once when an error ends this rank: tells the others, whose own errors then say
  /// why, and returns the message to end with, which names rank and step. `is_communication`: the
  /// error is a CommunicationError, so that another rank may have failed before.
  std::string fail(const std::string& message, bool is_communication);

 private:
  std::string key(const char* name) const;
  double start_timeout_s() const;
  std::string missing_ranks();
  void check_not_refused(const Deadline& deadline);

  RankEnvironment place_;
  double timeout_s_ = 0;
  std::optional<RendezvousServer> server_;
  std::optional<RendezvousStore> store_;
  std::unique_ptr<Communicator> several_;
  std::vector<double> step_times_;  // of the last steps, a ring
  std::size_t num_steps_ = 0;
  std::int64_t step_ = 0;  // under way; 0: none yet
};

}  // namespace smoe
