// The reports of a run in bounded memory: adjacent steps are collected in bins, and pairs of bins
// are merged when there are too many.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/report/report.h"

namespace smoe {

/// Minimum, mean and maximum of the finite numbers added.
struct Spread {
  std::int64_t count = 0;
  double sum = 0;
  double min = std::numeric_limits<double>::infinity();
  double max = -std::numeric_limits<double>::infinity();

  void add(double value);
  void merge(const Spread& other);
  bool empty() const { return count == 0; }
  double mean() const { return sum / static_cast<double>(count); }
};

/// Bins over steps, in ascending order. A Bin has a Spread `step` and `merge(const Bin&)`.
template <class Bin>
class Binned {
 public:
  explicit Binned(std::size_t max_bins) : max_bins_(max_bins) {}

  /// Adds the values of one step, which must not precede the last one added.
  void add(std::int64_t step, Bin values) {
    values.step.add(static_cast<double>(step));
    place(step / width_, std::move(values));
    while (bins_.size() > max_bins_) merge_pairs();
  }
  const std::vector<Bin>& bins() const { return bins_; }
  bool empty() const { return bins_.empty(); }

 private:
  void place(std::int64_t index, Bin bin) {
    if (!bins_.empty() && indices_.back() == index) {
      bins_.back().merge(bin);
    } else {
      bins_.push_back(std::move(bin));
      indices_.push_back(index);
    }
  }
  void merge_pairs() {
    width_ *= 2;
    const std::vector<Bin> bins = std::exchange(bins_, {});
    const std::vector<std::int64_t> indices = std::exchange(indices_, {});
    for (std::size_t i = 0; i < bins.size(); ++i) place(indices[i] / 2, bins[i]);
  }

  std::size_t max_bins_;
  std::int64_t width_ = 1;  // steps per bin
  std::vector<Bin> bins_;
  std::vector<std::int64_t> indices_;  // step / width_ of each bin
};

/// The values of training steps.
struct StepBin {
  Spread step{}, loss{}, lr{}, grad_norm{}, tokens_per_s{}, imbalance{}, dead_experts{};
  Spread entropy{}, balance_loss{}, z_loss{};  ///< over steps and layers
  Spread tokens{}, trained_s{};                ///< since step 0
  std::int64_t peak_bytes = 0;
  std::array<std::int64_t, kNumCategories> memory_bytes{};  ///< that peak by Category

  void merge(const StepBin& other);
};

/// Rows per layer and expert, summed over steps.
struct LoadBin {
  Spread step{};
  std::vector<std::vector<std::int64_t>> rows{};  ///< [L][E]

  void merge(const LoadBin& other);
};

struct ValidationBin {
  Spread step{}, loss{}, bits_per_byte{};
  std::map<std::string, Spread> source_bits_per_byte{};  ///< by name, when there are several

  void merge(const ValidationBin& other);
};

class RunHistory {
 public:
  /// Adds a report; reports must come in the order of the metrics file. Deterministic.
  void add(const Report& report);

  const std::vector<StepBin>& steps() const { return steps_.bins(); }
  const std::vector<LoadBin>& loads() const { return loads_.bins(); }
  const std::vector<ValidationBin>& validations() const { return validations_.bins(); }

  const std::optional<StartReport>& last_start() const { return last_start_; }
  const std::optional<StepReport>& last_step() const { return last_step_; }
  const std::optional<ValidationReport>& last_validation() const { return last_validation_; }
  /// The one with the lowest loss, the first of equal ones.
  const std::optional<ValidationReport>& best_validation() const { return best_validation_; }
  /// The last few steps after which a process resumed the run.
  const std::vector<std::int64_t>& restarts() const { return restarts_; }

  /// The last few changes of the run's configuration.
  const std::vector<ChangeReport>& changes() const { return changes_; }

  /// Training time of all processes of the run.
  double trained_s() const { return earlier_s_ + (last_step_ ? last_step_->elapsed_s : 0); }
  std::int64_t peak_bytes() const { return peak_bytes_; }
  std::int64_t num_skipped() const { return num_skipped_; }

 private:
  void take(const StartReport& report);
  void take(const StepReport& report);
  void take(const ValidationReport& report);
  void take(const ChangeReport& report);

  Binned<StepBin> steps_{500};
  Binned<LoadBin> loads_{500};
  Binned<ValidationBin> validations_{250};
  std::optional<StartReport> last_start_;
  std::optional<StepReport> last_step_;
  std::optional<ValidationReport> last_validation_, best_validation_;
  std::vector<std::int64_t> restarts_;
  std::vector<ChangeReport> changes_;
  double earlier_s_ = 0;  // trained by earlier processes
  std::int64_t peak_bytes_ = 0;
  std::int64_t num_skipped_ = 0;
};

}  // namespace smoe
