// Opens a run: its data, folder, ranks, model and checkpoint.
#pragma once
#include <memory>

#include "train/run.h"

namespace smoe {

/// Opens data and run folder, joins the other ranks, builds the model and loads the checkpoint that
/// checkpoint.resume selects. Prints a description of the run. `ranks` must outlive the run.
/// Throws: UsageError, and the folder is unchanged; SystemError.
std::unique_ptr<Run> open_run(const Config& config, Ranks& ranks = Ranks::single());

}  // namespace smoe
