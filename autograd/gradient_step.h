// GradientStep: the backward passes of one optimizer step, whose gradients accumulate in a
// ParameterStore.
#pragma once
#include "autograd/parameter_store.h"
#include "autograd/tape.h"

namespace smoe {

class GradientStep {
 public:
  /// Starts a step of `num_backwards` backward passes: the first write of each gradient overwrites
  /// it. Construct before the first forward pass, since some ops write gradients there. One step at
  /// a time; the store must outlive it.
  explicit GradientStep(ParameterStore& store, std::int64_t num_backwards = 1);
  /// Abandons the step unless it is finished: no hook fires any more.
  ~GradientStep() { store_.is_last_backward_ = false; }
  GradientStep(const GradientStep&) = delete;
  GradientStep& operator=(const GradientStep&) = delete;

  /// Runs the next backward pass on `tape`; the last one calls the store's hooks for completed
  /// gradients.
  WatchedGradients backward(Tape& tape, const Variable& loss);
  /// Ends the step: gradients that no op wrote become zero, and the store's finish hook is called,
  /// which waits for the reduction over ranks.
  /// Throws: InternalError unless all backward passes have run.
  void finish();

 private:
  ParameterStore& store_;
  std::int64_t backwards_left_;
};

}  // namespace smoe
