// Trainer: runs TrainStep on training data, one optimizer step after another. A step is a fixed
// list of micro-batches; micro-batch j is of rank j mod R. All decisions and reports follow from
// values reduced over the ranks, so they are the same on all ranks.
#pragma once
#include "core/state.h"
#include "train/data/batch_reader.h"
#include "train/data/batch_sampler.h"
#include "train/data/training_data.h"
#include "train/report/report.h"
#include "train/train_step.h"

namespace smoe {

/// Since when a run has used its batch size and blend.
struct DataStart {
  std::int64_t step = 0;    ///< steps done before
  std::int64_t tokens = 0;  ///< trained on before
  SamplingStart sampling{};
};

class Trainer {
 public:
  /// A model with initial weights. `training` and `communicator`, whose ranks train together, must
  /// outlive the trainer. Throws: UsageError if the vocabulary or size of the data, or the number
  /// of ranks, does not fit the config.
  Trainer(const Config& config, const TrainingData& training,
          Communicator& communicator = single_communicator());

  /// Trains one step. A step whose loss or gradient norm is not finite leaves weights, moments and
  /// selection biases unchanged and is reported as skipped; it still counts as a step, so that the
  /// next one reads the next data.
  StepReport step();

  std::int64_t steps_done() const { return step_; }
  /// Number of consecutive skipped steps up to now.
  std::int64_t nonfinite_in_a_row() const { return nonfinite_in_a_row_; }

  /// Visits everything that a later step reads; if is_sharded(), of weights and moments only this
  /// rank's elements.
  void visit_state(StateVisitor& visitor);
  /// Whether other ranks hold a part of the state.
  bool is_sharded() const { return train_step_.parallel().is_sharded(); }
  /// Visits the part of the state that is replicated on all ranks: counters, and whole buffers of
  /// weights and moments as they are in memory.
  void visit_replicated(StateVisitor& visitor);
  /// The same with a name for each parameter.
  void visit_replicated_parts(StateVisitor& visitor);
  /// Visits the part of the state that is the model: weights, as visit_state, and selection biases.
  void visit_model(StateVisitor& visitor);
  /// Visits the base, and says whether there is one; as TrainableModel.
  void visit_base(StateVisitor& visitor) { train_step_.model().visit_base(visitor); }
  bool has_base() const { return train_step_.model().has_base(); }
  /// Call after a visitor has loaded state: updates what is derived from it, and gathers the
  /// weights that other ranks loaded. A collective operation if is_sharded().
  void state_loaded();
  /// Visits the optimizer's part of the state: moments and their number of updates. A collective
  /// operation if is_sharded().
  void visit_optimizer(StateVisitor& visitor);
  /// Since when data is sampled as now; the start of the run unless set.
  DataStart data_start() const;
  void set_data_start(const DataStart& start);
  /// Permanently skips the data of the next `steps` steps.
  void skip_data(std::int64_t steps) { skipped_data_steps_ += steps; }

  void set_observer(ValueObserver observer) { train_step_.set_observer(std::move(observer)); }

  Transformer& model() { return train_step_.model().transformer; }
  const ParameterStore& store() const { return train_step_.model().store; }
  const DataParallel& parallel() const { return train_step_.parallel(); }
  /// Routing of the last step, over all ranks.
  const RouterStats& router_stats() const { return train_step_.router_stats(); }
  /// Losses, routing and norm of the last step, over all ranks.
  const StepResult& result() const { return result_; }
  /// Of the last step, on this rank.
  StepTimes step_times() const { return train_step_.times(); }
  std::int64_t num_micro_batches() const { return train_step_.num_micro_batches(); }

 private:
  StepGradient compute_gradient();
  void visit_counters(StateVisitor& visitor);

  Config config_;
  BatchSampler sampler_;
  BatchReader reader_;
  TrainStep train_step_;
  StepResult result_;  // of the last step
  std::int64_t data_start_step_ = 0, data_start_tokens_ = 0;
  std::int64_t step_ = 0;     // steps done
  std::int64_t updates_ = 0;  // steps that were not skipped
  std::int64_t nonfinite_in_a_row_ = 0;
  std::int64_t skipped_data_steps_ = 0;
};

}  // namespace smoe
