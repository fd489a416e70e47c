#include "train/report/history.h"

#include <cmath>

namespace smoe {
namespace {

constexpr std::size_t kMaxRestarts = 50, kMaxChanges = 50, kMaxSources = 64;

/// As many bins of expert load as a bounded amount of memory holds.
std::size_t max_bins_of(const LoadBin& load) {
  constexpr std::size_t kMaxCells = 2'000'000;
  std::size_t num_experts = 0;
  for (const auto& layer : load.rows) num_experts += layer.size();
  return std::clamp<std::size_t>(kMaxCells / std::max<std::size_t>(num_experts, 1), 60, 500);
}

Spread spread_of(double value) {
  Spread spread;
  spread.add(value);
  return spread;
}

bool is_same_shape(const LoadBin& a, const LoadBin& b) {
  return std::equal(a.rows.begin(), a.rows.end(), b.rows.begin(), b.rows.end(),
                    [](const auto& x, const auto& y) { return x.size() == y.size(); });
}

}  // namespace

void Spread::add(double value) {
  if (!std::isfinite(value)) return;
  ++count;
  sum += value;
  min = std::min(min, value);
  max = std::max(max, value);
}

void Spread::merge(const Spread& other) {
  count += other.count;
  sum += other.sum;
  min = std::min(min, other.min);
  max = std::max(max, other.max);
}

void StepBin::merge(const StepBin& other) {
  for (Spread StepBin::*value :
       {&StepBin::step, &StepBin::loss, &StepBin::lr, &StepBin::grad_norm, &StepBin::tokens_per_s,
        &StepBin::imbalance, &StepBin::dead_experts, &StepBin::entropy, &StepBin::balance_loss,
        &StepBin::z_loss, &StepBin::tokens, &StepBin::trained_s})
    (this->*value).merge(other.*value);
  if (other.peak_bytes <= peak_bytes) return;
  peak_bytes = other.peak_bytes;
  memory_bytes = other.memory_bytes;
}

// Ignores rows of another shape, which only an edited file can contain.
void LoadBin::merge(const LoadBin& other) {
  step.merge(other.step);
  if (!is_same_shape(*this, other)) return;
  for (std::size_t l = 0; l < rows.size(); ++l)
    for (std::size_t e = 0; e < rows[l].size(); ++e) rows[l][e] += other.rows[l][e];
}

void ValidationBin::merge(const ValidationBin& other) {
  step.merge(other.step);
  loss.merge(other.loss);
  bits_per_byte.merge(other.bits_per_byte);
  for (const auto& [name, spread] : other.source_bits_per_byte)
    source_bits_per_byte[name].merge(spread);
}

void RunHistory::add(const Report& report) {
  std::visit([this](const auto& r) { take(r); }, report);
}

void RunHistory::take(const StartReport& report) {
  earlier_s_ = trained_s();
  if (last_step_) last_step_->elapsed_s = 0;
  last_start_ = report;
  if (report.step == 0 || (!restarts_.empty() && restarts_.back() == report.step)) return;
  restarts_.push_back(report.step);
  if (restarts_.size() > kMaxRestarts) restarts_.erase(restarts_.begin());
}

void RunHistory::take(const StepReport& report) {
  StepBin bin{.loss = spread_of(report.loss),
              .lr = spread_of(report.lr),
              .grad_norm = spread_of(report.grad_norm),
              .tokens_per_s = spread_of(report.tokens_per_s),
              .imbalance = spread_of(report.imbalance),
              .dead_experts = spread_of(static_cast<double>(report.dead_experts)),
              .tokens = spread_of(static_cast<double>(report.tokens)),
              .trained_s = spread_of(earlier_s_ + report.elapsed_s),
              .peak_bytes = report.peak_bytes,
              .memory_bytes = report.memory_bytes};
  LoadBin load;
  for (const LayerReport& layer : report.layers) {
    bin.entropy.add(layer.load.entropy);
    bin.balance_loss.add(layer.balance_loss);
    bin.z_loss.add(layer.z_loss);
    load.rows.push_back(layer.expert_rows);
  }
  if (loads_.empty()) loads_ = Binned<LoadBin>(max_bins_of(load));
  const bool fits = loads_.empty() || is_same_shape(loads_.bins().back(), load);
  if (!load.rows.empty() && fits) loads_.add(report.step, std::move(load));
  steps_.add(report.step, std::move(bin));
  last_step_ = report;
  peak_bytes_ = std::max(peak_bytes_, report.peak_bytes);
  num_skipped_ += report.is_skipped;
}

void RunHistory::take(const ValidationReport& report) {
  ValidationBin bin{.loss = spread_of(report.loss),
                    .bits_per_byte = spread_of(report.bits_per_byte)};
  for (const SourceReport& source : report.sources)
    if (bin.source_bits_per_byte.size() < kMaxSources)
      bin.source_bits_per_byte[source.name].add(source.bits_per_byte);
  validations_.add(report.step, std::move(bin));
  last_validation_ = report;
  if (std::isfinite(report.loss) && (!best_validation_ || report.loss < best_validation_->loss))
    best_validation_ = report;
}

void RunHistory::take(const ChangeReport& report) {
  changes_.push_back(report);
  if (changes_.size() > kMaxChanges) changes_.erase(changes_.begin());
}

}  // namespace smoe
