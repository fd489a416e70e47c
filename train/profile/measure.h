// Measuring a profile: warm-up steps, a window of recorded steps, and steps after it that show that
// nothing of the profiler is left.
#pragma once
#include <functional>

#include "core/distributed/communicator.h"
#include "train/data/training_data.h"
#include "train/profile/profile_window.h"
#include "train/trainer.h"

namespace smoe {

enum class ProfiledRanks : std::uint8_t {
  first,  ///< rank 0 is recorded and the others are not slowed down
  all,    ///< each is recorded, and its profile holds the times of all
};

struct ProfileOptions {
  std::int64_t steps = 3;   ///< in the window
  std::int64_t warmup = 5;  ///< before it, at least 1
  ProfileMode mode = ProfileMode::automatic;
  ProfiledRanks ranks = ProfiledRanks::all;
  std::function<void(const std::string&)>
      on_progress{};  ///< called with what is done next; may be null
};

/// Profiles calls of `step`, which does one training step on the current stream. Without what only
/// a model has: plan, routing, tokens. `communicator` is what the step's ranks use. Throws:
/// UsageError without steps or warm-up; SystemError where ProfileMode::cupti is impossible.
ProfiledRun profile_steps(const ProfileOptions& options, const Roofline& roofline,
                          const std::function<void()>& step,
                          Communicator& communicator = single_communicator());

/// Trains the model of `config` on `training`, from initial weights, and profiles it. A collective
/// operation; each recorded rank gets its own profile, the others an empty one. Throws: also
/// OutOfMemory.
ProfiledRun profile_training(const Config& config, const TrainingData& training,
                             const ProfileOptions& options,
                             Communicator& communicator = single_communicator());

/// Fills in, between two steps of `trainer`, what a profile of its steps says beyond the
/// recording: the plan beside it, what unequal loads cost, advice. `recorded_ranks`: of ranks that
/// are all recorded, for which this is a collective operation; null: this rank alone is.
void complete_profile(const Config& config, Trainer& trainer, Communicator* recorded_ranks,
                      ProfiledRun& run);

}  // namespace smoe
