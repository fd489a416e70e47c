// StepTimer: the time that steps take, and the throughput and model FLOPs utilization (MFU) that
// follow from it.
#pragma once
#include <cstdint>

#include "train/config/config.h"
#include "train/report/report.h"
#include "train/train_step.h"

namespace smoe {

class StepTimer {
 public:
  /// Of a run by `config` on `world_size` ranks. Asks the current stream's device for its peak
  /// FLOP/s.
  StepTimer(const Config& config, int world_size);

  /// Adds the wall time of one step, and what of it was not computing.
  void add(double step_s, const StepTimes& times = {});
  /// Adds the time after the last step in which the device finished it.
  void add_finishing(double seconds) { total_s_ += seconds, interval_s_ += seconds; }
  /// Adds time between steps in which ranks compared their state.
  void add_comparison(double seconds) { comparison_s_ += seconds; }
  /// Adds time between steps in which training waited for a save.
  void add_save(double seconds) { save_s_ += seconds; }
  /// Sets the times, their shares, throughput and MFU of `report`: means over the steps since the
  /// last call, of which there must be at least one.
  void report_to(StepReport& report);

 private:
  double tokens_per_step_, flops_per_token_;
  double peak_flops_;  // per rank; 0: unknown
  int world_size_;
  double total_s_ = 0, interval_s_ = 0;
  StepTimes interval_times_;
  double comparison_s_ = 0, save_s_ = 0;
  std::int64_t interval_steps_ = 0;
};

}  // namespace smoe
