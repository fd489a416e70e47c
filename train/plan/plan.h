// Plan: what a run will cost and where its mixture of experts may fail, before it starts.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "layers/model_size.h"
#include "train/plan/memory_plan.h"

namespace smoe {

/// The token set that a config names, where it exists.
struct PlannedData {
  std::int64_t training_tokens = 0;
  std::int64_t vocab_size = 0;
};

/// Something that will make a run slow, unstable or worse than it could be.
struct PlanWarning {
  std::string what;    ///< is so
  std::string why;     ///< it hurts
  std::string change;  ///< that mends it
};

struct Plan {
  Config config;  ///< with the vocabulary of the token set filled in
  std::optional<PlannedData> data;
  std::vector<ParameterGroup> groups;
  ModelSize size;
  TokenFlops flops;  ///< of a token
  MemoryPlan memory;
  std::vector<PlanWarning> warnings;

  std::int64_t tokens_per_micro_batch() const {
    return config.train.micro_batch * config.train.seq_len;
  }
  std::int64_t tokens_per_step() const { return config.train.global_batch * config.train.seq_len; }
  std::int64_t tokens() const { return config.train.steps * tokens_per_step(); }
  /// Rows that an expert gets from a micro-batch at perfect balance: T K / E.
  double rows_per_expert() const;
  /// Times the run reads the training tokens; 0 without a token set.
  double epochs() const;
};

/// Throws: UsageError when the vocabulary's size is neither in the config nor in a token set.
Plan make_plan(const Config& config);

}  // namespace smoe
