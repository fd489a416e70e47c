#include "train/step_reporter.h"

#include <algorithm>

#include "core/memory.h"

namespace smoe {

namespace {

// "3.self_attn.gate" of model.layers.3.self_attn.gate
std::string short_name(const Router& router) {
  constexpr std::string_view kLayers = "model.layers.";
  const std::string& name = router.name();
  return name.starts_with(kLayers) ? name.substr(kLayers.size()) : name;
}

}  // namespace

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
  const std::vector<Router*>& routers = trainer_.model().routers();
  const std::vector<RouterTotals>& all = trainer_.result().routers;
  const bool is_one_per_layer =
      static_cast<std::int64_t>(routers.size()) == trainer_.model().config().num_layers;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const RouterTotals& totals = all[i];
    layers.push_back({.router = is_one_per_layer ? "" : short_name(*routers[i]),
                      .expert_rows = totals.expert_rows,
                      .load = expert_load(totals.expert_rows),
                      .balance_loss = totals.balance_loss,
                      .z_loss = totals.z_loss});
  }
  return layers;
}

}  // namespace smoe
