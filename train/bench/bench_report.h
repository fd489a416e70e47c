// Results of sweeps for people and programs.
#pragma once
#include <string>
#include <vector>

#include "train/bench/sweep.h"

namespace smoe {

/// A sweep's head; per size a head, a line per variant, and what follows from them; the sizes at
/// which variants break even.
std::string bench_head(const Sweep& sweep, const std::string& device);
std::string bench_row_head(const Sweep& sweep, const SweepPoint& point);
std::string bench_line(const Sweep& sweep, const SweepRow& row, const Measurement& m);
std::string bench_row_foot(const SweepRow& row);
std::string bench_foot(const SweepResult& result);
/// All of these.
std::string bench_text(const SweepResult& result);
std::string bench_csv(const std::vector<SweepResult>& results);
std::string bench_json(const std::vector<SweepResult>& results);
/// One self-contained page with a plot of throughput and one of memory for each sweep.
std::string bench_page(const std::vector<SweepResult>& results);

}  // namespace smoe
