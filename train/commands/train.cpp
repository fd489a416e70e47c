// `smoe train CONFIG [key.path=value ...]`: runs one training run in this process.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "train/commands/arguments.h"
#include "train/commands/commands.h"
#include "train/commands/rank_setup.h"
#include "train/config/changes.h"
#include "train/open_run.h"

namespace smoe {
namespace {

int run_train(const TrainArguments& options) {
  const Config config = options.config.load();
  if (options.print_config) {
    std::cout << to_yaml(config);
    return 0;
  }
  std::vector<std::string> consent;
  if (!options.change.empty()) consent = parse_consent(options.change, config);
  return run_on_rank(config,
                     [&](Ranks& ranks) { return open_run(config, ranks, consent)->train(); });
}

}  // namespace

Command add_train_command(CLI::App& app) {
  auto options = std::make_shared<TrainArguments>();
  CLI::App* train = app.add_subcommand("train", "Train the model that a YAML file describes");
  options->add_to(*train);
  train->footer(
      "Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU save a checkpoint after the current\n"
      "step and stop; a second one stops at once. The same command resumes the run from its "
      "newest\n"
      "checkpoint. Keys that affect training, such as optim.lr, change with --change KEY, which\n"
      "log, metrics, report and config.yaml note. train.steps needs it with schedule.kind cosine\n"
      "(the default) or linear; with constant, and with wsd before its decay, it may just grow.\n"
      "Other keys change freely or not at all: docs/configuration.md. With another run.name and\n"
      "checkpoint.resume=FOLDER a run branches off: it keeps moments and its place in the data.\n"
      "\n"
      "Examples:\n"
      "  smoe train configs/tiny.yaml\n"
      "  smoe train configs/tiny.yaml optim.lr=1e-3 run.name=low-lr\n"
      "  smoe train configs/tiny.yaml train.steps=800 --change train.steps\n"
      "  smoe train configs/tiny.yaml --print-config");
  return {train, [options] { return run_train(*options); }};
}

}  // namespace smoe
