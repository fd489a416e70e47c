// The configuration of one run as plain data. The initial values are the defaults. The name, rule
// and meaning of each key are in schema.cpp; comments here cover only what the code needs besides.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/distributed/transport.h"
#include "layers/forward_context.h"
#include "layers/model_config.h"
#include "optim/optim_config.h"

namespace smoe {

struct RunConfig {
  std::string name;
  std::string dir = "runs";
  std::int64_t seed = 0;
  std::string device = "auto";
  std::int64_t threads = 0;

  /// The run's folder: dir/name.
  std::string folder() const { return dir + "/" + name; }
};

/// One of several token sets that are blended.
struct DataSource {
  std::string name;
  std::string path;
  double weight = 0;  ///< its share of the samples is weight / sum of all weights
};

/// Exactly one of `path` and `sources` is set.
struct DataConfig {
  std::string path;
  std::vector<DataSource> sources;  ///< in the order they were given
  std::string validation;
};

/// The reaction to a loss or gradient norm that is not finite; the update is never applied.
enum class NonfinitePolicy : std::uint8_t {
  skip,      ///< continue with the next step
  stop,      ///< end the run with an error
  rollback,  ///< return to the newest checkpoint
};

/// What a run takes from the one that train.init_from names.
enum class InitParts : std::uint8_t {
  weights,
  optimizer,  ///< weights, moments and their number of updates
};

struct TrainConfig {
  std::int64_t steps = 0;
  std::int64_t seq_len = 0;
  std::int64_t micro_batch = 0;
  std::int64_t global_batch = 0;
  DType precision = DType::f32;  ///< master weights and moments are f64 for f64, else f32
  /// f32: in the dtype of the master weights, which may be f64. bf16: beside bf16 precision only.
  DType grad_dtype = DType::f32;
  Recompute recompute = Recompute::none;
  std::int64_t recompute_layers = 0;  ///< the first ones; 0: all
  std::int64_t eval_every = 0;
  std::int64_t eval_batches = 0;
  NonfinitePolicy on_nonfinite = NonfinitePolicy::skip;
  bool deterministic = true;
  std::string init_from;
  InitParts init_parts = InitParts::weights;
  std::int64_t max_nonfinite = 10;  ///< applies to every policy
};

/// What gradients are stored in and reduced over the ranks in.
constexpr DType gradient_dtype(const TrainConfig& train) {
  return train.grad_dtype == DType::bf16 ? DType::bf16 : accumulation_dtype(train.precision);
}

/// How several ranks train one model. Nothing here changes the result but its rounding.
struct ParallelConfig {
  bool zero = false;  ///< ZeRO stage 1
  Transport transport = Transport::automatic;
  std::int64_t bucket_mb = 0;  ///< 0: 256 on GPUs, 32 on CPUs
  std::int64_t check_every = 100;
  std::int64_t timeout_s = 0;  ///< 0: see Ranks
};

struct CheckpointConfig {
  std::int64_t every = 0;
  double every_minutes = 10;
  std::int64_t keep = 2;
  std::int64_t keep_every = 0;
  bool keep_best = false;
  bool async = false;
  std::string resume = "auto";
};

struct LogConfig {
  std::int64_t every = 10;
  bool tensorboard = false;
};

struct ProfileConfig {
  std::int64_t every = 0;
  std::int64_t steps = 3;
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
  ProfileConfig profile;
};

/// The configuration in the YAML file `path` with `overrides` ("optim.lr=0.001") applied in order.
/// Throws: UsageError, one line `file:line: key: rule; got value`, for the first violated rule;
/// SystemError if the file cannot be read.
Config load_config(const std::string& path, const std::vector<std::string>& overrides = {});

/// Throws: UsageError unless train.global_batch is a multiple of train.micro_batch * num_ranks.
void check_global_batch(const TrainConfig& train, int num_ranks);

/// Like load_config, for YAML text; `name` stands for the file in messages.
Config parse_config(const std::string& yaml, const std::string& name,
                    const std::vector<std::string>& overrides = {});

/// Every key with its value as YAML, each with a comment on its meaning. parse_config parses it to
/// an equal configuration.
std::string to_yaml(const Config& config);

/// 32 hex digits (XXH3, 128 bits) over the keys that a resumed run must share with the run that
/// wrote the checkpoint: those that determine the trained weights, not output paths or logging.
std::string config_digest(const Config& config);

}  // namespace smoe
