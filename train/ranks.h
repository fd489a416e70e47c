// Ranks: this process's membership in a job of several ranks that train one model: joining the job,
// checking before the first step that all ranks run the same configuration, and reporting to the
// others why one failed.
//
// Keys in the rendezvous store, prefixed with the restart count of the job:
//   facts          the facts of rank 0, as one text
//   here/N         set by rank N when it begins to join, so that missing ranks can be named
//   refusals       number of ranks that refuse to start; the first one sets
//   refusal        its message: the first difference found, or the error that ended that rank
//   compared       number of ranks that have compared their facts; the last one sets
//   all compared   which releases all ranks from join()
//   failures       number of failed ranks; the first one sets
//   failed_rank    its number, which the launcher reads, and
//   failure        its message
//   device/ID      rank that uses the GPU of this identity; device/ID/claims counts its users
// The communicators add their own keys (core/distributed/{nccl_communicator,connect_ranks}.h).
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/distributed/communicator.h"
#include "core/distributed/rendezvous_server.h"
#include "core/distributed/rendezvous_store.h"
#include "core/distributed/transport.h"
#include "train/launch/rank_environment.h"

namespace smoe {

/// A property that must be equal on all ranks.
struct Fact {
  std::string key;
  std::string value;
};

/// What a rank requests of all ranks between two steps.
struct StepRequests {
  int signal = 0;      ///< to stop because of; 0: none
  bool saves = false;  ///< to save a checkpoint
};

class Ranks {
 public:
  /// A single rank, without a job.
  Ranks() = default;
  static Ranks& single();
  /// Connects to the store of the job, which this process serves where no launcher does.
  /// `timeout_s` is how long ranks wait for each other. 0 chooses it: 300 s at the start and during
  /// saves and validations; otherwise 20 times the median time of the last steps, at least 60 s.
  /// `transport` is for ranks on GPUs. Throws: SystemError, UsageError.
  Ranks(const RankEnvironment& environment, std::int64_t timeout_s,
        Transport transport = Transport::automatic);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return environment_.rank; }
  int world_size() const { return environment_.world_size; }
  bool is_first() const { return rank() == 0; }
  bool are_several() const { return world_size() > 1; }

  /// Compares the facts, which all ranks list in the same order, with those of rank 0, and connects
  /// the communicator. `own_device` identifies a device that no two ranks may share; empty: none.
  /// All ranks must call it, once.
  /// Throws: UsageError, the same on all ranks, which names the first key that differs on any rank,
  /// both values and their ranks, or the ranks that share a device; SystemError naming the ranks
  /// that did not join in time.
  void join(const std::vector<Fact>& facts, const std::string& own_device = "");
  /// The communicator of the job after join(): that of the transport if the current device was a
  /// GPU then, which also takes tensors on the host; else TCP. Before, that of a single rank.
  Communicator& communicator();

  /// Returns the text of rank 0. All ranks must call it.
  std::string broadcast(const std::string& text);
  /// Returns the signal of the lowest rank that received one, 0 if none did, and whether rank 0
  /// requests a save. All ranks must call it.
  StepRequests agree(const StepRequests& own);

  /// Sets the current step, for messages.
  void begin_step(std::int64_t step) { step_ = step; }
  /// Records the time of a step, from which the timeout of later steps is derived.
  void record_step_time(double seconds);
  /// Raises the timeout for an operation that takes longer than a step, until the next
  /// record_step_time.
  void expect_long_wait();

  /// Returns once all ranks have called it: the end of a successful run.
  void leave() { communicator().barrier()->wait(); }
  /// Reports the error that ends this rank to the others, so that their errors name the cause, and
  /// returns the message to exit with, which names rank and step. Call once.
  /// `is_communication`: the error is a CommunicationError, so another rank may have failed first.
  std::string report_failure(const std::string& message, bool is_communication);

 private:
  double start_timeout_s() const;
  void wait_aloud(const Deadline& deadline, const std::function<void(const Deadline&)>& wait,
                  const std::function<std::string()>& what);
  std::string missing_ranks(const Deadline& deadline);
  std::string claim_device(const std::string& device, const Deadline& deadline);
  void connect();
  std::unique_ptr<Communicator> connect_gpus();
  bool lost_another_rank();
  void check_not_refused(const Deadline& deadline);

  RankEnvironment environment_;
  double timeout_s_ = 0;
  Transport transport_ = Transport::automatic;
  std::optional<RendezvousServer> server_;
  std::optional<RendezvousStore> store_;
  std::unique_ptr<Communicator> control_;  // TCP
  std::unique_ptr<Communicator> gpus_;     // if ranks have GPUs; uses control_
  std::vector<double> step_times_;         // ring buffer of the last steps
  std::size_t num_steps_ = 0;
  std::atomic<std::int64_t> step_ = 0;  // in progress; 0: none yet
};

}  // namespace smoe
