// Sweeps: the paper's experiments on one SMoE layer, on a mixture of attention and on its 1.5B
// model (arXiv:2403.08245, section 4), and its op ParallelLinear alone, each variant at each of a
// row of sizes.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/bench/expert_variant.h"
#include "train/config/config.h"

namespace smoe {

/// One size of a sweep.
struct SweepPoint {
  double x;  ///< what the sweep varies
  ExpertShape shape;
  double imbalance = 1;
  std::optional<LinearMode> mode{};          ///< one ParallelLinear instead of a layer
  std::optional<AttentionMode> attention{};  ///< a mixture of attention instead of a layer
  std::optional<Config> model{};             ///< a training step of this model instead of a layer

  double forward_flops() const;
};

struct Sweep {
  std::string name;     ///< "granularity"
  std::string meaning;  ///< one line
  std::string x_name;   ///< "top_k"
  bool trains = true;   ///< false: forward alone, keeping nothing
  std::vector<SweepPoint> points;
};

/// Names of all sweeps.
std::vector<std::string> sweep_names();

/// The sweep called `name`, in the paper's sizes, with tokens and widths divided by `scale`, a
/// power of two. Throws: UsageError for another name or scale.
Sweep make_sweep(const std::string& name, std::int64_t scale, DType dtype);

/// What one variant took at one size. Bytes are above those of the inputs.
struct Measurement {
  VariantKind variant;
  double forward_ms = 0;
  double backward_ms = 0;  ///< 0 in a sweep that does not train; of a model with the update
  std::int64_t kept_bytes =
      0;  ///< for backward, with the output; the output alone without training
  std::int64_t peak_bytes = 0;           ///< without the gradients of weights
  std::int64_t backward_peak_bytes = 0;  ///< the peak in backward alone
  double error = 0;  ///< largest difference to the reference's results over their largest value

  double ms() const { return forward_ms + backward_ms; }
};

struct SweepRow {
  SweepPoint point;
  std::vector<Measurement> measurements{};  ///< only of variants whose results agree
  std::vector<std::string> refused{};       ///< the others, each with the reason
  /// Time of the padded variant's grouped GEMMs over that of dense GEMMs per expert on the same
  /// padded rows; 0: not measured.
  double padded_gemm_ratio = 0;
};

struct SweepResult {
  Sweep sweep;
  std::string device;
  std::vector<SweepRow> rows;
};

/// Sees a sweep's results as they come; each function may be null.
struct SweepObserver {
  std::function<void(const SweepRow& row)> on_begin{};  ///< of a size, nothing is measured yet
  std::function<void(const SweepRow& row, const Measurement& m)> on_measurement{};
  std::function<void(const SweepRow& row)> on_end{};
};

/// Measures on the current stream's device; variants of one size take turns. `seconds` is the time
/// for each variant and size.
SweepResult run_sweep(const Sweep& sweep, double seconds, const SweepObserver& observer = {});
/// The name of the current stream's device, as in a SweepResult.
std::string sweep_device();

/// The x at which `variant` becomes as fast as smoe, between two measured sizes; none if one is
/// faster everywhere.
std::optional<double> break_even(const SweepResult& result, VariantKind variant);

}  // namespace smoe
