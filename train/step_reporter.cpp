#include "train/step_reporter.h"

#include <algorithm>

#include "core/memory.h"

namespace smoe {

StepReporter::StepReporter(const Config& config, Trainer& trainer, int world_size)
    : trainer_(trainer), timer_(config, world_size) {}

void StepReporter::complete(StepReport& report) {
  timer_.report_to(report);
  report.layers = layer_reports();
  for (const LayerReport& layer : report.layers) {
    report.imbalance = std::max(report.imbalance, layer.load.imbalance);
    report.dead_experts += layer.load.dead;
  }
  report.peak_bytes = memory_use().peak_bytes;
  report.memory_bytes = memory_at_peak();
  reset_peak_memory();
}

std::vector<LayerReport> StepReporter::layer_reports() const {
  std::vector<LayerReport> layers;
  for (const RouterTotals& totals : trainer_.result().routers)
    layers.push_back({.expert_rows = totals.expert_rows,
                      .load = expert_load(totals.expert_rows),
                      .balance_loss = totals.balance_loss,
                      .z_loss = totals.z_loss});
  return layers;
}

}  // namespace smoe
