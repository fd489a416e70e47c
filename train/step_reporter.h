// StepReporter: what only a logged step's report holds: times, throughput and MFU since the last
// report, each layer's routing, and memory.
#pragma once
#include "train/step_timer.h"
#include "train/trainer.h"

namespace smoe {

class StepReporter {
 public:
  /// Of `trainer`'s steps by `config`, on `world_size` ranks. The trainer must outlive this.
  StepReporter(const Config& config, Trainer& trainer, int world_size);

  /// Adds the wall time of one step.
  void add_time(double step_s) { timer_.add(step_s, trainer_.step_times()); }
  /// Adds the time after a step in which the device finished it.
  void add_finishing_time(double seconds) { timer_.add_finishing(seconds); }
  /// Adds the time in which ranks compared their state.
  void add_comparison_time(double seconds) { timer_.add_comparison(seconds); }
  /// Adds the time that training waited for a save.
  void add_save_time(double seconds) { timer_.add_save(seconds); }
  /// Completes the report of the last step: times are means over the steps since the last call,
  /// memory is the peak since then.
  void complete(StepReport& report);

 private:
  std::vector<LayerReport> layer_reports() const;

  Trainer& trainer_;
  StepTimer timer_;
};

}  // namespace smoe
