// Results of sweeps for people and programs.
#pragma once
#include <string>
#include <vector>

#include "train/bench/sweep.h"

namespace smoe {

std::string bench_text(const SweepResult& result);
std::string bench_csv(const std::vector<SweepResult>& results);
std::string bench_json(const std::vector<SweepResult>& results);
/// One self-contained page with a plot of throughput and one of memory for each sweep.
std::string bench_page(const std::vector<SweepResult>& results);

}  // namespace smoe
