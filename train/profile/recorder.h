// Recorder: an instrument that notes launches, ranges and waits, and when they happened on the host
// and, by timing events, on the device.
//
// Two events per launch would lengthen a step by more than 1 %. So a launch records its end only;
// it begins when the launch before it ends, unless the device was idle or other work may lie
// between. What events show for a launch that does nothing is measured before the window and taken
// off.
#pragma once
#include <chrono>
#include <memory>

#include "core/device.h"
#include "train/profile/recording.h"

namespace smoe {

/// Sees each launch by its index, for a tool that times kernels itself.
class LaunchMarker {
 public:
  virtual ~LaunchMarker() = default;
  virtual void begin_launch(int index) = 0;
  virtual void end_launch() = 0;
};

class Recorder : public Instrument {
 public:
  /// For a window on the current stream, which it waits for, of about `num_launches` launches. With
  /// a `marker`, which must outlive this, launches are not timed by events.
  explicit Recorder(std::size_t num_launches, LaunchMarker* marker = nullptr);

  void begin_step();
  void end_step();
  /// Waits for the device and returns what was recorded. Times of launches on the device are 0 with
  /// a marker.
  Recording finish();

  void begin_kernel(const Launch& launch, const char* name, const Cost& cost) override;
  void end_kernel(const Launch& launch) override;
  void end_op(const char* op, const char* part) override;
  void begin_place(const Place& place) override;
  void end_place() override;
  void begin_wait() override;
  void end_wait() override;

 private:
  // Events of a launch; -1: none. Without a begin it began with the end of the launch before it.
  struct Events {
    int begin = -1, end = -1;
  };

  double now() const;
  int record_event(void* stream);
  double time_of(int event) const;
  bool follows_last(const Launch& launch, const Place& place) const;
  void resolve_launches();

  Stream stream_;
  bool has_events_;
  LaunchMarker* marker_;
  std::chrono::steady_clock::time_point start_;
  Recording recording_;
  std::vector<Events> events_;               // by launch
  std::vector<Events> step_events_;          // by step
  std::vector<std::shared_ptr<void>> pool_;  // CUDA events, the first `num_used_` in use
  int num_used_ = 0;
  void* last_stream_ = nullptr;
  std::size_t first_unnamed_ = 0;  // launch that may belong to the next op that ends
  std::vector<RangeSample> open_ranges_;
  int wait_depth_ = 0;
};

}  // namespace smoe
