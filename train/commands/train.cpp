// `smoe train CONFIG [key.path=value ...]`: runs one training run in this process.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>

#include "core/device.h"
#include "core/system/standard_output.h"
#include "kernels/threads.h"
#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/config/changes.h"
#include "train/launch/rank_environment.h"
#include "train/open_run.h"

namespace smoe {
namespace {

/// Reports `error` to the other ranks and ends this one. On a GPU it leaves the process
/// immediately: exit() would wait for kernels that wait for lost ranks.
template <class E>
[[noreturn]] void end_rank(Ranks& ranks, const std::exception& error, bool is_communication,
                           int exit_code) {
  const std::string message = ranks.report_failure(error.what(), is_communication);
  if (current_stream().device().type != DeviceType::cuda) throw E(message);
  std::cout.flush();
  std::fprintf(stderr, "%s\n", message.c_str());
  ::_exit(exit_code);
}

/// Trains as one of several ranks and reports a failure to the others.
int train_on_ranks(Ranks& ranks, const Config& config, const std::vector<std::string>& consent) {
  try {
    return open_run(config, ranks, consent)->train();
  } catch (const CommunicationError& error) {
    end_rank<SystemError>(ranks, error, true, 1);
  } catch (const UsageError& error) {
    end_rank<UsageError>(ranks, error, false, 2);
  } catch (const std::exception& error) {
    end_rank<SystemError>(ranks, error, false, 1);
  }
}

/// The device that run.device names; errors name the key.
Device device_of(const std::string& name, const RankEnvironment& place) {
  try {
    return select_device(name, place.local_rank, place.local_world_size);
  } catch (const UsageError& error) {
    throw UsageError(concat("run.", error.what()));
  }
}

int run_train(const TrainArguments& options) {
  const Config config = options.config.load();
  if (options.print_config) {
    std::cout << to_yaml(config);
    return 0;
  }
  std::vector<std::string> consent;
  if (!options.change.empty()) consent = parse_consent(options.change, config);
  ignore_broken_pipes();
  const RankEnvironment environment = read_rank_environment();
  const Stream stream(device_of(config.run.device, environment));
  const StreamGuard guard(stream, {.deterministic = config.train.deterministic});
  const int threads = static_cast<int>(config.run.threads);
  kernels::cpu::set_num_threads(threads > 0 ? threads : threads_of(environment));
  Ranks ranks(environment, config.parallel.timeout_s);
  return ranks.are_several() ? train_on_ranks(ranks, config, consent)
                             : open_run(config, Ranks::single(), consent)->train();
}

}  // namespace

Command add_train_command(CLI::App& app) {
  auto options = std::make_shared<TrainArguments>();
  CLI::App* train = app.add_subcommand("train", "Train the model that a YAML file describes");
  options->add_to(*train);
  train->footer(
      "Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU save a checkpoint after the current "
      "step\n"
      "and stop; a second one stops at once. The same command resumes the run from its newest\n"
      "checkpoint. train.steps may grow when it does; other changes need --change, and are noted\n"
      "in log, metrics, report and config.yaml. With checkpoint.resume=FOLDER and another "
      "run.name\n"
      "a run branches off: it keeps moments and its place in the data.\n"
      "\n"
      "Examples:\n"
      "  smoe train configs/tiny.yaml\n"
      "  smoe train configs/tiny.yaml optim.lr=1e-3 run.name=low-lr\n"
      "  smoe train configs/tiny.yaml train.steps=800 --change train.steps\n"
      "  smoe train configs/tiny.yaml --print-config");
  return {train, [options] { return run_train(*options); }};
}

}  // namespace smoe
