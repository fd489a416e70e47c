// RunProfiler: profiles a few steps of a run every now and then.
#pragma once
#include <deque>
#include <optional>
#include <string>

#include "train/profile/profile_window.h"
#include "train/trainer.h"

namespace smoe {

class RunProfiler {
 public:
  /// As `config.profile` says, whose `every` is positive; writes to folders in `folder`. Measures
  /// the roofline, before the first step needs its memory.
  RunProfiler(const Config& config, Trainer& trainer, Communicator& communicator,
              std::string folder);

  /// Before a step of training, which is recorded if a profile is due.
  void begin_step();
  /// After it; `step_ms` is its time. Returns a line about the profile that ended with it; empty:
  /// none. Only this rank is recorded.
  std::string end_step(double step_ms);
  /// Ends a profile before other work than training. Likewise.
  std::string end_window();

 private:
  const Config& config_;
  Trainer& trainer_;
  Communicator& communicator_;
  std::string folder_;
  Roofline roofline_;
  std::int64_t num_launches_ = 0;        // of a step
  std::deque<double> plain_ms_;          // of the last steps that were not recorded
  std::optional<ProfileWindow> window_;  // while it lasts
};

}  // namespace smoe
