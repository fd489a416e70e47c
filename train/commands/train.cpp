// `smoe train CONFIG [key.path=value ...]`: one run, in this process.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "train/commands/commands.h"
#include "train/config/config.h"

namespace smoe {
namespace {

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  bool print_config = false;
};

int run_train(const TrainOptions& options) {
  const Config config = load_config(options.config, options.overrides);
  if (options.print_config) std::cout << to_yaml(config);
  return 0;
}

}  // namespace

Command add_train_command(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* train = app.add_subcommand("train", "Train a model as one YAML file describes it");
  train->add_option("CONFIG", options->config, "YAML file of the run")->required();
  train->add_option("OVERRIDES", options->overrides,
                    "key.path=value, each replaces a key of CONFIG");
  train
      ->add_flag("--print-config", options->print_config,
                 "Print the configuration with all defaults and overrides, and stop")
      ->required();
  train->footer(
      "Examples:\n"
      "  smoe train configs/tiny.yaml --print-config\n"
      "  smoe train configs/tiny.yaml optim.lr=1e-3 run.name=low-lr --print-config");
  return {train, [options] { return run_train(*options); }};
}

}  // namespace smoe
