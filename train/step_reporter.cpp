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
  const RouterStats& stats = trainer_.router_stats();
  const auto num_micro_batches = static_cast<double>(trainer_.num_micro_batches());
  std::vector<LayerReport> layers;
  for (std::int64_t i = 0; i < stats.expert_load().dim(0); ++i) {
    LayerReport layer{.expert_rows = stats.expert_load().rows(i, i + 1).to_vector<std::int64_t>()};
    layer.load = expert_load(layer.expert_rows);
    layer.balance_loss = stats.losses().view(2 * i, {1}).item() / num_micro_batches;
    layer.z_loss = stats.losses().view(2 * i + 1, {1}).item() / num_micro_batches;
    layers.push_back(std::move(layer));
  }
  return layers;
}

}  // namespace smoe
