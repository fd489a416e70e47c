// `smoe plan CONFIG [key.path=value ...]`: what a run will cost, before it starts.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "kernels/threads.h"
#include "train/commands/commands.h"
#include "train/plan/plan_text.h"

namespace smoe {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  bool is_json = false;
};

int run_plan(const Options& options) {
  const Config config = load_config(options.config, options.overrides);
  if (config.run.threads > 0) kernels::cpu::set_num_threads(static_cast<int>(config.run.threads));
  const Plan plan = make_plan(config);
  std::cout << (options.is_json ? plan_json(plan) : plan_text(plan));
  return 0;
}

}  // namespace

Command add_plan_command(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("plan", "Say what a run will cost before it starts");
  command->add_option("CONFIG", options->config, "YAML file of the run")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("OVERRIDES", options->overrides, "key.path=value, each replaces a key of CONFIG")
      ->type_name("");
  command->add_flag("--json", options->is_json, "Print one JSON object instead of tables");
  command->footer(
      "Parameters, FLOP a token, tokens an expert and the memory that a step will hold, by "
      "category,\n"
      "with warnings of what would make a mixture of experts slow or unstable. Nothing is "
      "trained,\n"
      "and the token set need not exist where model.vocab_size is given.\n"
      "\n"
      "Examples:\n"
      "  smoe plan configs/tiny.yaml\n"
      "  smoe plan configs/small-8x.yaml train.precision=bf16 train.recompute=experts\n"
      "  smoe plan configs/tiny.yaml --json");
  return {command, [options] { return run_plan(*options); }};
}

}  // namespace smoe
