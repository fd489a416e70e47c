// ProfileWindow: records some steps of training.
#pragma once
#include <memory>
#include <optional>

#include "core/distributed/communicator.h"
#include "train/profile/device_tracer.h"
#include "train/profile/profile.h"
#include "train/profile/recorder.h"

namespace smoe {

enum class ProfileMode : std::uint8_t {
  automatic,  ///< CUPTI on a GPU that allows it, else events
  events,     ///< timing events around launches; on the CPU the host's clock
  cupti,      ///< kernels one by one
};

/// A profile and the recording that it was made from.
struct ProfiledRun {
  Profile profile{};
  Recording recording{};
};

class ProfileWindow {
 public:
  /// Begins to record this thread's steps on the current stream, of about `num_launches` launches
  /// in all, and what their ranks send through `communicator`, which must outlive the window.
  /// Throws: SystemError where ProfileMode::cupti is impossible.
  ProfileWindow(ProfileMode mode, std::int64_t num_launches, Communicator& communicator);

  /// Around each step.
  void begin_step();
  void end_step();
  std::int64_t num_steps() const { return num_steps_; }
  /// Waits for the device, ends recording, and returns what was recorded, not yet analyzed. Call
  /// once, after at least one step.
  ProfiledRun finish();

 private:
  // Of the memory log, while a window lasts.
  struct MemoryLogWindow {
    MemoryLogWindow();
    ~MemoryLogWindow();
  };

  Communicator& communicator_;
  Profile profile_;
  MemoryLogWindow memory_log_;
  std::unique_ptr<DeviceTracer> tracer_;  // null: events
  Recorder recorder_;
  PowerMeter power_;
  std::optional<InstrumentScope> scope_;  // in a step
  std::int64_t num_steps_ = 0;
};

}  // namespace smoe
