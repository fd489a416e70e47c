// Opens a run: its data, folder, ranks, model and checkpoint.
#pragma once
#include <memory>

#include "train/run.h"

namespace smoe {

/// Opens data and run folder, joins the other ranks, builds the model and loads the checkpoint that
/// checkpoint.resume selects; if that is a folder of another run, once this run has checkpoints of
/// its own the newest of them. Prints a description of the run. `consent` lists the keys, or
/// sections, whose values may differ from those that the checkpoint was trained with: the run
/// records such changes and continues with them. `ranks` must outlive the run.
/// Throws: UsageError, and the folder is unchanged; SystemError.
std::unique_ptr<Run> open_run(const Config& config, Ranks& ranks = Ranks::single(),
                              const std::vector<std::string>& consent = {});

}  // namespace smoe
