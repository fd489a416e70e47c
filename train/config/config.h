// The configuration of one run as plain data. The initial values here are the defaults; what each
// key is called in YAML, which values it takes and what it means stands in schema.cpp.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "layers/forward_context.h"
#include "layers/model_config.h"
#include "optim/optim_config.h"

namespace smoe {

struct RunConfig {
  std::string name;
  std::string dir = "runs";
  std::int64_t seed = 0;
  std::string device = "auto";
  std::int64_t threads = 0;  ///< 0: one per core, divided among its ranks

  /// Where everything the run writes goes: dir/name.
  std::string folder() const { return dir + "/" + name; }
};

/// One of several token sets that are trained on together.
struct DataSource {
  std::string name;
  std::string path;
  double weight = 0;  ///< its share of the samples is weight over the sum of all weights
};

struct DataConfig {
  std::string path;                 ///< the only token set; empty: `sources`
  std::vector<DataSource> sources;  ///< in the order they were given
  std::string validation;           ///< empty: the validation splits of the sets to train on
};

/// What happens when a loss or gradient norm is not finite; its update is never applied.
enum class NonfinitePolicy : std::uint8_t {
  skip,      ///< go on with the next step
  stop,      ///< end the run with an error
  rollback,  ///< go back to the newest checkpoint
};

struct TrainConfig {
  std::int64_t steps = 0;
  std::int64_t seq_len = 0;       ///< tokens of a sequence
  std::int64_t micro_batch = 0;   ///< sequences of one forward and backward pass
  std::int64_t global_batch = 0;  ///< sequences of one optimizer step
  DType precision = DType::f32;   ///< of compute; master weights and moments follow it only for f64
  Recompute recompute = Recompute::none;
  std::int64_t eval_every = 0;    ///< steps; 0: only after the last step
  std::int64_t eval_batches = 0;  ///< micro-batches of one evaluation; 0: all of the validation set
  NonfinitePolicy on_nonfinite = NonfinitePolicy::skip;
  bool deterministic = true;  ///< only kernels whose results have the same bits each time
  std::string init_from;  ///< run or checkpoint whose weights a new run begins with; empty: random
  std::int64_t max_nonfinite = 10;  ///< this many in a row end the run, whatever the policy
};

/// How several ranks train one model. None of it changes what is trained.
struct ParallelConfig {
  bool zero = false;               ///< optimizer state is sharded (ZeRO stage 1)
  std::int64_t bucket_mb = 32;     ///< MiB of gradients that are summed over the ranks at a time
  std::int64_t check_every = 100;  ///< steps between comparisons of the ranks' state; 0: none
  std::int64_t timeout_s = 0;      ///< that ranks wait for each other; 0: see Ranks
};

struct CheckpointConfig {
  std::int64_t every = 0;       ///< steps; 0: only after the last step
  std::int64_t keep = 2;        ///< newest ones that are kept
  std::int64_t keep_every = 0;  ///< those of every this many steps are kept for good; 0: none
  bool async = false;           ///< saved by a thread, from a copy, while training goes on
  std::string resume = "auto";  ///< "auto", "none" or the folder of a checkpoint
};

struct LogConfig {
  std::int64_t every = 10;   ///< steps between two lines
  bool tensorboard = false;  ///< events in the run's folder
};

struct Config {
  RunConfig run;
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimConfig optim;
  ScheduleConfig schedule;
  ParallelConfig parallel;
  CheckpointConfig checkpoint;
  LogConfig log;
};

/// The configuration in the YAML file `path` with `overrides` ("optim.lr=0.001") applied in order.
/// Throws: UsageError with one line `file:line: key: rule; got value` for the first broken rule;
/// SystemError if the file cannot be read.
Config load_config(const std::string& path, const std::vector<std::string>& overrides = {});

/// As load_config for YAML text; `name` stands for the file in messages.
Config parse_config(const std::string& yaml, const std::string& name,
                    const std::vector<std::string>& overrides = {});

/// Every key with its value as YAML, each with a comment on its meaning. parse_config reads it back
/// to the same configuration.
std::string to_yaml(const Config& config);

/// 32 hex digits (XXH3, 128 bits) over the keys a resumed run must have in common with the run that
/// wrote the checkpoint: those that decide the trained numbers, not where they go or who watches.
std::string config_digest(const Config& config);

/// Where `now` and the configuration that a run was trained with differ in keys of config_digest:
/// "optim.lr=0.1, it was trained with 0.003" for each; empty when the digests agree.
std::vector<std::string> resume_differences(const Config& trained, const Config& now);

}  // namespace smoe
