// The facts that must be equal on all ranks of a run.
#pragma once
#include <vector>

#include "train/config/config.h"
#include "train/data/training_data.h"
#include "train/data/validation_sets.h"
#include "train/ranks.h"

namespace smoe {

/// The program, each key of the configuration with its value, the keys that may change, and the
/// digest of the data. Throws: SystemError when the program cannot be read.
std::vector<Fact> run_facts(const Config& config, const std::vector<std::string>& consent,
                            const TrainingData& training,
                            const std::vector<ValidationSet>& validation);

/// Identifies this rank's GPU among those of all hosts; empty on a CPU.
std::string device_identity();

}  // namespace smoe
