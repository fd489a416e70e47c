// TrainStep: one optimizer step: forward and backward of its micro-batches, gradient reduction over
// the ranks, clipping, update. Trainer feeds it batches of training data; `plan` runs it on a dry
// device, so that the memory it reports is that of training by construction.
//
// A step is three calls: compute_gradient and update only queue work, the device itself decides
// whether the update applies, and read waits for the results, once per step, while the update runs.
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "autograd/tape.h"
#include "core/device.h"
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

/// Totals of one router's routing over the micro-batches and ranks of a step.
struct RouterTotals {
  std::vector<std::int64_t> expert_rows;  ///< [E]
  double balance_loss = 0, z_loss = 0;    ///< means over the micro-batches
};

/// What the host learns of a step.
struct StepResult {
  StepLosses losses;
  std::vector<RouterTotals> routers;  ///< in model order
  double grad_norm = 0;               ///< before clipping
  bool is_applied = false;  ///< whether losses and norm are finite, so that weights were updated
};

/// What compute_gradient leaves on the device.
struct StepGradient {
  GradientClip clip;  ///< of the gradient reduced over all ranks; the coefficient is NaN if the
                      ///< norm or a loss is not finite
  Event ready;        ///< when it and the losses are there
};

/// Time of a step on this rank in which it did not compute, in seconds.
struct StepTimes {
  double data_s = 0;  ///< host time in reading batches
  double communication_s =
      0;  ///< in which the device waited for the gradient's reduction over ranks
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
  /// Updates weights, moments and selection biases, unless the gradient's coefficient is NaN.
  /// `update` counts updates from 1; `lr` is the scheduled learning rate.
  void update(const StepGradient& gradient, std::int64_t update, double lr);
  /// The results of all ranks' micro-batches. Waits for the gradient, but not for the update; to be
  /// called before the next compute_gradient.
  StepResult read(const StepGradient& gradient) const;

  /// Calls `observer` with the weights before each step (site "weight"), the cross-entropy
  /// of each micro-batch ("loss"), and what a Tape's observer sees.
  void set_observer(ValueObserver observer);

  /// Of the last step. Call after read().
  StepTimes times() const;

  std::int64_t num_micro_batches() const {
    return config_.train.global_batch / config_.train.micro_batch;
  }
  TrainableModel& model() { return model_; }
  const TrainableModel& model() const { return model_; }
  AdamW& optimizer() { return optimizer_; }
  DataParallel& parallel() { return parallel_; }
  const DataParallel& parallel() const { return parallel_; }
  /// Routing of the last step, over all ranks.
  const RouterStats& router_stats() const { return stats_; }

 private:
  Config config_;
  TrainableModel model_;
  DataParallel parallel_;
  AdamW optimizer_;
  // f64: of each micro-batch cross-entropy, balance and z loss; the layers' routing totals; the
  // norm of the gradient and its coefficient. One tensor, which is reduced and read at once.
  Tensor results_;
  Tensor losses_;      // the first part: [micro-batches, 3]
  RouterStats stats_;  // in the second
  Stream reader_;
  Tape tape_;
  StepTimes times_;                                   // on the host
  std::optional<std::pair<Event, Event>> reduction_;  // around the wait for it, on a GPU
  ValueObserver observer_;
};

}  // namespace smoe
