// `smoe train CONFIG [key.path=value ...]`: runs one training run in this process.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/device.h"
#include "core/system/standard_output.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/launch/rank_environment.h"
#include "train/open_run.h"

namespace smoe {
namespace {

struct TrainOptions {
  ConfigArguments config;
  bool print_config = false;
};

/// Trains as one of several ranks and reports a failure to the others.
int train_on_ranks(Ranks& ranks, const Config& config) {
  try {
    return open_run(config, ranks)->train();
  } catch (const CommunicationError& error) {
    throw SystemError(ranks.report_failure(error.what(), true));
  } catch (const UsageError& error) {
    throw UsageError(ranks.report_failure(error.what(), false));
  } catch (const std::exception& error) {
    throw SystemError(ranks.report_failure(error.what(), false));
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
  const Config config = options.config.load();
  if (options.print_config) {
    std::cout << to_yaml(config);
    return 0;
  }
  ignore_broken_pipes();
  const Stream stream(device_of(config.run.device));
  const StreamGuard guard(stream, {.deterministic = config.train.deterministic});
  const RankEnvironment environment = read_rank_environment();
  const int threads = static_cast<int>(config.run.threads);
  kernels::cpu::set_num_threads(threads > 0 ? threads : threads_of(environment));
  SMOE_CHECK(environment.world_size == 1 || stream.device().type == DeviceType::cpu,
             "run.device: must be cpu for several ranks; got ", to_string(stream.device()), " for ",
             environment.world_size, " ranks");
  Ranks ranks(environment, config.parallel.timeout_s);
  return ranks.are_several() ? train_on_ranks(ranks, config) : open_run(config)->train();
}

}  // namespace

Command add_train_command(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* train = app.add_subcommand("train", "Train the model that a YAML file describes");
  options->config.add_to(*train);
  train->add_flag("--print-config", options->print_config,
                  "Print the configuration with all defaults and overrides, and exit");
  train->footer(
      "Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU save a checkpoint after the current "
      "step\n"
      "and stop; a second one stops at once. The same command resumes the run from its newest\n"
      "checkpoint.\n"
      "\n"
      "Examples:\n"
      "  smoe train configs/tiny.yaml\n"
      "  smoe train configs/tiny.yaml optim.lr=1e-3 run.name=low-lr\n"
      "  smoe train configs/tiny.yaml --print-config");
  return {train, [options] { return run_train(*options); }};
}

}  // namespace smoe
