// StepCost: counts the kernels that a training step launches, and their cost, on any device.
#pragma once
#include "core/base/instrument.h"

namespace smoe {

class StepCost : public Instrument {
 public:
  /// Of the launches of this thread within a step so far.
  const Cost& total() const { return total_; }
  std::int64_t num_launches() const { return num_launches_; }

  void begin_kernel(const Launch&, const char*, const Cost& cost) override {
    if (current_place().phase == Phase::none) return;
    total_ += cost;
    ++num_launches_;
  }
  void end_kernel(const Launch&) override {}
  void end_op(const char*, const char*) override {}
  void begin_place(const Place&) override {}
  void end_place() override {}
  void begin_wait() override {}
  void end_wait() override {}

 private:
  Cost total_;
  std::int64_t num_launches_ = 0;
};

}  // namespace smoe
