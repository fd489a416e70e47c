// Plan: the cost of a run and the risks of its configuration, computed before it starts.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/base/instrument.h"
#include "kernels/engines.h"
#include "layers/model_size.h"
#include "train/plan/communication_cost.h"
#include "train/plan/memory_plan.h"

namespace smoe {

/// The training data of a config, if it exists.
struct PlannedData {
  std::int64_t training_tokens = 0;
  std::int64_t vocab_size = 0;
};

/// A property of a config that makes the run slow, unstable or less accurate.
struct PlanWarning {
  std::string what;    ///< the property
  std::string why;     ///< its harm
  std::string change;  ///< the suggested change
};

/// A rank's part of a job of several ranks.
struct RankPlan {
  bool zero;
  MemoryPlan memory;  ///< without the transport's own
  CommunicationCost communication;
};

struct Plan {
  Config config;  ///< with vocab_size resolved from the token set
  std::optional<PlannedData> data;
  std::vector<ParameterGroup> groups;
  ModelSize size;
  TokenFlops flops;   ///< per token
  MemoryPlan memory;  ///< on one rank
  int num_ranks = 1;
  std::vector<RankPlan> ranks;  ///< without and with ZeRO; empty for one rank
  Cost step;  ///< of the kernels of one rank's step: what a profile divides by times
  std::vector<PlanWarning> warnings;
  double cpu_flops_per_s = 0;  ///< of a GEMM on the CPU that the run is for; 0: not measured

  std::int64_t tokens_per_micro_batch() const {
    return config.train.micro_batch * config.train.seq_len;
  }
  std::int64_t tokens_per_step() const { return config.train.global_batch * config.train.seq_len; }
  std::int64_t tokens() const { return config.train.steps * tokens_per_step(); }
  /// Rows per expert and micro-batch at perfect balance: T K / E.
  double rows_per_expert() const;
  /// How expert GEMMs run on a Hopper GPU; needs none.
  kernels::cuda::ExpertGemmConfig hopper_gemm() const;
  /// Passes of the run over the training tokens; 0 without a token set.
  double epochs() const;
};

/// What one of `num_ranks` ranks sends in a step. model.vocab_size must be set.
CommunicationCost plan_communication(const Config& config, int num_ranks);

/// `device_bytes` is the memory of the device that the run is for; 0: of the one that it would use
/// on this machine, if that is there.
/// Throws: UsageError when neither the config nor a token set gives the vocabulary size, or if
/// `num_ranks` ranks cannot share the steps.
Plan make_plan(const Config& config, int num_ranks = 1, std::int64_t device_bytes = 0);

}  // namespace smoe
