// Trainer: one optimizer step after another. A step is a list of micro-batches that the config
// fixes; their gradients add up in the parameter store, then norm, clip and update follow. With
// several ranks, micro-batch j is rank j mod R's; all that is decided or told follows from sums
// over the ranks, so that all decide and tell the same.
#pragma once
#include <memory>

#include "autograd/parameter_store.h"
#include "autograd/tape.h"
#include "core/distributed/communicator.h"
#include "core/state.h"
#include "layers/transformer.h"
#include "optim/adamw.h"
#include "train/config/config.h"
#include "train/data/batch_sampler.h"
#include "train/data/training_data.h"
#include "train/data/validation_sets.h"
#include "train/data_parallel.h"
#include "train/report/report.h"

namespace smoe {

class Trainer {
 public:
  /// A model with fresh weights. `training` and `ranks`, all of which train together, must outlive
  /// the trainer. Throws: UsageError when vocabulary or size of the data, or the number of ranks,
  /// does not fit the config.
  Trainer(const Config& config, const TrainingData& training,
          Communicator& ranks = single_communicator());

  /// Trains one step. A step whose loss or gradient norm is not finite leaves weights, moments and
  /// balancing state as they were and is reported as skipped; it counts as a step all the same, so
  /// that the next one sees other data.
  StepReport step();

  /// Adds to the report of the last step what only a shown one needs: each layer's routing, and the
  /// memory since the last call. Waits for the device.
  void add_details(StepReport& report);

  /// Mean loss over the validation splits of `sets`, or the part of each that train.eval_batches
  /// allows; of each set, too, when there are several.
  ValidationReport validate(const std::vector<ValidationSet>& sets);

  std::int64_t steps_done() const { return step_; }
  /// Skipped steps in a row, up to now.
  std::int64_t nonfinite_in_a_row() const { return nonfinite_in_a_row_; }

  /// Everything a later step reads.
  void visit_state(StateVisitor& visitor);
  /// Whether a part of it is on other ranks, so that visiting takes all.
  bool is_sharded() const { return parallel_.is_sharded(); }
  /// The part of it that is the same on all ranks, each for itself.
  void visit_replicated(StateVisitor& visitor);
  /// The part of it that is the model: weights and balancing state.
  void visit_model(StateVisitor& visitor);
  /// To be called after a visitor has put state back: brings what follows from it up to date.
  void state_loaded();
  /// Leaves out the data of the next `steps` steps, for good.
  void skip_data(std::int64_t steps) { skipped_data_steps_ += steps; }

  Transformer& model() { return model_; }
  const ParameterStore& store() const { return store_; }

 private:
  struct Sums {  // of the step's micro-batches
    double cross_entropy = 0, balance = 0, z = 0;
  };
  Sums forward_backward();
  Sums sums_of(const std::vector<ModelLosses>& own_losses) const;
  bool update(double loss, StepReport& report);
  std::int64_t num_micro_batches() const {
    return config_.train.global_batch / config_.train.micro_batch;
  }
  void visit_counters(StateVisitor& visitor);
  std::vector<LayerReport> layer_reports();

  Config config_;
  BatchSampler sampler_;
  Transformer model_;
  ParameterStore store_;
  DataParallel parallel_;
  AdamW optimizer_;
  Tape tape_;
  std::int64_t step_ = 0;     // steps done
  std::int64_t updates_ = 0;  // steps that were not skipped
  std::int64_t nonfinite_in_a_row_ = 0;
  std::int64_t skipped_data_steps_ = 0;
};

}  // namespace smoe
