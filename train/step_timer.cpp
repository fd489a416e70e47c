#include "train/step_timer.h"

#include "core/device.h"
#include "layers/model_size.h"
#include "train/report/peak_flops.h"

namespace smoe {

StepTimer::StepTimer(const Config& config, int world_size)
    : tokens_per_step_(static_cast<double>(config.train.global_batch * config.train.seq_len)),
      flops_per_token_(flops_per_token(config.model, config.train.seq_len).training()),
      peak_flops_(peak_flops(current_stream().device(), config.train.precision)),
      world_size_(world_size) {}

void StepTimer::add(double step_s, const StepTimes& times) {
  interval_times_.data_s += times.data_s;
  interval_times_.communication_s += times.communication_s;
  total_s_ += step_s;
  interval_s_ += step_s;
  ++interval_steps_;
}

void StepTimer::report_to(StepReport& report) {
  report.elapsed_s = total_s_;
  report.step_s = interval_s_ / static_cast<double>(interval_steps_);
  report.tokens_per_s = tokens_per_step_ / report.step_s;
  const double tokens_per_s_per_rank = report.tokens_per_s / world_size_;
  report.mfu = peak_flops_ == 0 ? 0 : tokens_per_s_per_rank * flops_per_token_ / peak_flops_;
  const double whole_s = interval_s_ + comparison_s_ + save_s_;
  report.data_share = interval_times_.data_s / whole_s;
  report.communication_share = (interval_times_.communication_s + comparison_s_) / whole_s;
  report.save_share = save_s_ / whole_s;
  interval_times_ = {};
  comparison_s_ = save_s_ = 0;
  interval_s_ = 0;
  interval_steps_ = 0;
}

}  // namespace smoe
