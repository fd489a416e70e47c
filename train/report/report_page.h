// report.html: one page that shows a run, whole in itself: no network, no other file.
#pragma once
#include <string>

#include "train/config/config.h"
#include "train/report/history.h"

namespace smoe {

/// The page: headline figures, curves, memory, expert load and the configuration. The same history
/// and configuration make the same bytes. Its size is bounded however long the run.
std::string report_page(const RunHistory& history, const Config& config);

}  // namespace smoe
