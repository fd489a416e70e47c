// Comparison of runs: their curves over each other, the keys in which they differ, and their
// results.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "train/config/config.h"
#include "train/report/history.h"

namespace smoe {

/// A run, read from its folder.
struct ComparedRun {
  std::string path;  ///< as given
  Config config;
  RunHistory history;

  /// What tells it from the others: its folder.
  std::string label;
};

/// Reads the runs in `paths`, of which there must be at least two; `warn` as read_metrics.
/// Throws: UsageError for a folder without a run, or one given twice.
std::vector<ComparedRun> read_runs(const std::vector<std::string>& paths,
                                   const std::function<void(const std::string&)>& warn);

/// A key in which runs differ, with its value in each run.
struct Difference {
  std::string key;
  std::vector<std::string> values;
};
std::vector<Difference> differences_of(const std::vector<ComparedRun>& runs);

/// A result with its value in each run; "-" where a run has none.
struct ResultRow {
  std::string name;
  std::vector<std::string> values;
};
std::vector<ResultRow> results_of(const std::vector<ComparedRun>& runs);

std::string compare_text(const std::vector<ComparedRun>& runs);

}  // namespace smoe
