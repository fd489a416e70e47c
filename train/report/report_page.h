// report.html: a self-contained page about a run that needs no network and no other file.
#pragma once
#include <string>

#include "train/config/config.h"
#include "train/report/history.h"

namespace smoe {

enum class RunState : std::uint8_t { running, finished, stopped };

/// When a page is written, and what the run does then. A page of a running run reloads itself.
struct PageStatus {
  RunState state = RunState::running;
  std::string updated{};  ///< UTC: "2026-03-21T14:05:09Z"
};

/// The state of a run that no process trains any more: finished if all steps are done.
RunState ended_state(const RunHistory& history);

/// The page: key figures, curves, memory, expert load and the configuration. Deterministic in its
/// arguments. Its size is bounded, whatever the length of the run.
std::string report_page(const RunHistory& history, const Config& config, const PageStatus& status);

}  // namespace smoe
