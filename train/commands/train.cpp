// `smoe train CONFIG [key.path=value ...]`: one run, in this process.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/device.h"
#include "kernels/threads.h"
#include "train/commands/commands.h"
#include "train/launch/rank_environment.h"
#include "train/run.h"

namespace smoe {
namespace {

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  bool print_config = false;
};

/// As one of several ranks, of which the others hear why this one fails.
int train_with(Ranks& ranks, const Config& config) {
  try {
    return Run(config, ranks).train();
  } catch (const CommunicationError& error) {
    throw SystemError(ranks.fail(error.what(), true));
  } catch (const UsageError& error) {
    throw UsageError(ranks.fail(error.what(), false));
  } catch (const std::exception& error) {
    throw SystemError(ranks.fail(error.what(), false));
  }
}

/// The device that run.device names; errors name the key.
Device device_of(const std::string& name) {
  try {
    return select_device(name);
  } catch (const UsageError& error) {
    throw UsageError(concat("run.", error.what()));
  }
}

int run_train(const TrainOptions& options) {
  const Config config = load_config(options.config, options.overrides);
  if (options.print_config) {
    std::cout << to_yaml(config);
    return 0;
  }
  const Stream stream(device_of(config.run.device));
  const StreamGuard guard(stream, {.deterministic = config.train.deterministic});
  const RankEnvironment place = read_rank_environment();
  const int threads = static_cast<int>(config.run.threads);
  kernels::cpu::set_num_threads(threads > 0 ? threads : threads_of(place));
  SMOE_CHECK(place.world_size == 1 || stream.device().type == DeviceType::cpu,
             "run.device: must be cpu for several ranks; got ", to_string(stream.device()), " for ",
             place.world_size, " ranks");
  Ranks ranks(place, config.parallel.timeout_s);
  return ranks.are_several() ? train_with(ranks, config) : Run(config).train();
}

}  // namespace

Command add_train_command(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* train = app.add_subcommand("train", "Train a model as one YAML file describes it");
  train->add_option("CONFIG", options->config, "YAML file of the run")->required();
  train->add_option("OVERRIDES", options->overrides,
                    "key.path=value, each replaces a key of CONFIG");
  train->add_flag("--print-config", options->print_config,
                  "Print the configuration with all defaults and overrides, and stop");
  train->footer(
      "A run that was stopped goes on where it was when the same command is given again.\n"
      "\n"
      "Examples:\n"
      "  smoe train configs/tiny.yaml\n"
      "  smoe train configs/tiny.yaml optim.lr=1e-3 run.name=low-lr\n"
      "  smoe train configs/tiny.yaml --print-config");
  return {train, [options] { return run_train(*options); }};
}

}  // namespace smoe
