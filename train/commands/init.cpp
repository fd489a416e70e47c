// `smoe init [NAME]`: prints a complete, commented configuration to begin with.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "train/commands/commands.h"
#include "train/commands/shipped_configs.h"

namespace smoe {
namespace {

int run_init(const std::string& name) {
  for (const auto& [known, text] : kShippedConfigs)
    if (name == known) std::cout << text;
  return 0;
}

}  // namespace

Command add_init_command(CLI::App& app) {
  auto name = std::make_shared<std::string>("tiny");
  std::vector<std::string> names;
  for (const ShippedConfig& config : kShippedConfigs) names.emplace_back(config.name);
  CLI::App* command = app.add_subcommand("init", "Print a complete, commented configuration");
  command->add_option("NAME", *name, "Which one: tiny or small for CPUs, 1.5b for a GPU")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  command->footer(
      "Edit the result, or override its keys: run.name and data.path at least.\n"
      "\n"
      "Examples:\n"
      "  smoe init > my.yaml\n"
      "  smoe init small > small.yaml");
  return {command, [name] { return run_init(*name); }};
}

}  // namespace smoe
