// report.html: a self-contained page about a run that needs no network and no other file.
#pragma once
#include <string>

#include "train/config/config.h"
#include "train/report/history.h"

namespace smoe {

/// The page: key figures, curves, memory, expert load and the configuration. Deterministic in its
/// arguments. Its size is bounded, whatever the length of the run.
std::string report_page(const RunHistory& history, const Config& config);

}  // namespace smoe
