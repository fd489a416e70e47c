// Validation during training: the loss of the trained model on the run's validation sets.
#pragma once
#include "train/data/validation_sets.h"
#include "train/evaluate.h"
#include "train/report/report.h"
#include "train/trainer.h"

namespace smoe {

/// Mean loss over the validation splits of `sets`, or over the part of each that
/// train.eval_batches selects; also per set if there are several. The ranks of the trainer share
/// the work and all get the result. `on_evaluated` as for evaluate.
ValidationReport validate(const Config& config, Trainer& trainer,
                          const std::vector<ValidationSet>& sets,
                          const OnEvaluated& on_evaluated = nullptr);

}  // namespace smoe
