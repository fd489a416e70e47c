// The reports of a run: plain data, filled in by the trainer, formatted by console_line.h for
// people and by metrics_line.h for programs.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/memory.h"
#include "layers/expert_load.h"

namespace smoe {

/// A process begins to train: it starts or resumes the run.
struct StartReport {
  std::int64_t step = 0;  ///< steps done before
  std::int64_t steps = 0;
  std::string time{};        ///< UTC: "2026-03-21T14:05:09Z"
  std::string device{};      ///< "cpu"
  std::int64_t threads = 0;  ///< of each rank
  std::int64_t ranks = 1;
  std::string version{};          ///< of the program
  std::int64_t device_bytes = 0;  ///< memory of each rank's device; 0: not recorded
};

/// One router's routing in one step.
struct LayerReport {
  std::string router{};  ///< "3.self_attn.gate"; empty if each layer has one router
  std::vector<std::int64_t> expert_rows{};  ///< rows routed to each expert
  ExpertLoad load{};
  double balance_loss = 0;  ///< 1.0 at perfect balance, without its coefficient
  double z_loss = 0;        ///< without its coefficient
};

/// One optimizer step. Losses are means over the step's tokens, in nats.
struct StepReport {
  std::int64_t step = 0;    ///< steps done, including this one: 1 in the first report
  std::int64_t steps = 0;   ///< of the whole run
  std::int64_t tokens = 0;  ///< trained on since step 0, including this step
  double loss = 0;          ///< cross-entropy only
  double balance_loss = 0;  ///< mean over layers; 1.0 at perfect balance, without its coefficient
  double z_loss = 0;        ///< mean over layers, without its coefficient
  double lr = 0;
  double grad_norm = 0;  ///< before clipping
  double tokens_per_s = 0;
  double mfu = 0;        ///< model FLOP/s over the GPU's peak FLOP/s; 0: peak unknown
  double step_s = 0;     ///< wall time per step, the mean since the last report
  double elapsed_s = 0;  ///< wall time since this process began to train
  // Shares of the time since the last report, validations apart, on this rank: 0 to 1.
  double data_share = 0;           ///< reading batches
  double communication_share = 0;  ///< waiting for the reduction of gradients, comparing ranks
  double save_share = 0;           ///< saving, as far as training waits for it
  std::int64_t peak_bytes = 0;     ///< peak memory of tensors since the last report
  std::array<std::int64_t, kNumCategories> memory_bytes{};  ///< that peak by Category
  double imbalance = 0;  ///< largest over mean expert load, in the worst layer; 1 at balance
  std::int64_t dead_experts = 0;  ///< experts without a token in this step, over all layers
  bool is_skipped = false;        ///< loss or norm was not finite, so the update was not applied
  std::vector<LayerReport> layers{};  ///< of all routers, in model order
};

/// The part of a validation on the text of one source.
struct SourceReport {
  std::string name;  ///< as in data.sources
  std::int64_t tokens = 0;
  double loss = 0;
  double bits_per_byte = 0;
};

/// One pass over the validation text, or over the part selected by train.eval_batches.
struct ValidationReport {
  std::int64_t step = 0;  ///< steps done before
  std::int64_t steps = 0;
  std::int64_t tokens = 0;   ///< predicted
  double loss = 0;           ///< cross-entropy, nats per token
  double bits_per_byte = 0;  ///< total nats / ln 2 / bytes of the text
  double seconds = 0;
  std::vector<SourceReport> sources{};  ///< when there are several
};

/// A key of the configuration with another value from here on; values as YAML.
struct ChangedKey {
  std::string key;
  std::string before;
  std::string after;

  friend bool operator==(const ChangedKey&, const ChangedKey&) = default;
};

/// The run continues with a changed configuration.
struct ChangeReport {
  std::int64_t step = 0;  ///< steps done before
  std::int64_t steps = 0;
  std::vector<ChangedKey> changes{};
};

/// "optim.lr 0.003 -> 0.001, train.steps 60 -> 80".
std::string summary_of(const ChangeReport& report);

using Report = std::variant<StartReport, StepReport, ValidationReport, ChangeReport>;

/// The step of any report.
inline std::int64_t step_of(const Report& report) {
  return std::visit([](const auto& r) { return r.step; }, report);
}

}  // namespace smoe
