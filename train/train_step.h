// TrainStep: one optimizer step: forward and backward of its micro-batches, gradient reduction over
// the ranks, clipping, update. Trainer feeds it batches of training data; `plan` runs it on a dry
// device, so that the memory it reports is that of training by construction.
//
// A step is two calls, and neither waits for the device. Between them the caller reads the results
// and decides whether to update.
#pragma once
#include <functional>
#include <vector>

#include "autograd/tape.h"
#include "core/distributed/communicator.h"
#include "layers/router_stats.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "train/data/batch.h"
#include "train/data_parallel.h"
#include "train/trainable_model.h"

namespace smoe {

/// Losses of one step, summed over its micro-batches and ranks: each is a mean over the tokens.
struct StepLosses {
  double cross_entropy = 0, balance = 0, z = 0;
};

/// What compute_gradient leaves on the device.
struct StepGradient {
  std::vector<ModelLosses> losses;  ///< of this rank's micro-batches
  GradientClip clip;                ///< of the gradient reduced over all ranks
};

class TrainStep {
 public:
  /// Returns the batch of micro-batch `index` of the step.
  using BatchSource = std::function<Batch(std::int64_t index)>;

  /// A model with initial weights, and its optimizer. `communicator` must outlive this; its ranks
  /// take their steps together. Throws: UsageError if train.global_batch is not a multiple of
  /// train.micro_batch times the number of ranks.
  TrainStep(const Config& config, Communicator& communicator);

  /// Runs forward and backward of this rank's micro-batches: micro-batch j is of rank j mod R.
  /// `step`, counted from 0, keys the random numbers.
  StepGradient compute_gradient(std::int64_t step, const BatchSource& batch_of);
  /// Reads the losses of all ranks' micro-batches; waits for the device. A collective operation.
  StepLosses read_losses(const StepGradient& gradient) const;
  /// Updates weights, moments and selection biases. `update` counts updates from 1; `lr` is the
  /// scheduled learning rate.
  void update(const StepGradient& gradient, std::int64_t update, double lr);

  /// Calls `observer` with the master weights before each step (site "weight"), the cross-entropy
  /// of each micro-batch ("loss"), and what a Tape's observer sees.
  void set_observer(ValueObserver observer);

  std::int64_t num_micro_batches() const {
    return config_.train.global_batch / config_.train.micro_batch;
  }
  TrainableModel& model() { return model_; }
  const TrainableModel& model() const { return model_; }
  AdamW& optimizer() { return optimizer_; }
  DataParallel& parallel() { return parallel_; }
  const DataParallel& parallel() const { return parallel_; }
  /// Routing of the last step, over all ranks.
  RouterStats& router_stats() { return stats_; }

 private:
  Config config_;
  TrainableModel model_;
  DataParallel parallel_;
  AdamW optimizer_;
  RouterStats stats_;
  Tape tape_;
  ValueObserver observer_;
};

}  // namespace smoe
