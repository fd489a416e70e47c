// From which configuration and data a run continues when it resumes from a checkpoint.
#pragma once
#include <string>
#include <vector>

#include "train/checkpoint/checkpoint.h"
#include "train/config/changes.h"
#include "train/data/training_data.h"
#include "train/trainer.h"

namespace smoe {

/// The configuration that the checkpoint's run had, for a run that `now` describes. Checkpoints of
/// earlier versions do not record it: then it is `now`, or the run's config.yaml, if that has the
/// recorded digest. Throws: UsageError when neither has; SystemError.
Config trained_config(const Checkpoint& checkpoint, const Config& now);

/// The changes with which a run may continue from the checkpoint, as accepted_changes. A training
/// set with other contents is a change of its path. Throws: UsageError as accepted_changes.
std::vector<KeyChange> accepted_resumption(const Checkpoint& checkpoint, const Config& trained,
                                           const Config& now, const TrainingData& data,
                                           const std::vector<std::string>& consent);

/// Where a run that resumes from a checkpoint with this manifest continues in its data: as before,
/// or, if `now` has another blend or batch size, from that step on, each set after the samples
/// already taken of it.
DataStart resumed_data_start(const Manifest& manifest, const Config& trained, const Config& now,
                             const TrainingData& data);

/// What a checkpoint records of a run's data.
ManifestData manifest_data(const DataStart& start, const TrainingData& data);

}  // namespace smoe
