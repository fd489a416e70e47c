// Command line arguments that several commands share.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "train/config/config.h"

namespace smoe {

/// Adds an option with a default value, which --help shows.
template <class T>
CLI::Option* add_option(CLI::App& command, const std::string& name, T& value,
                        const std::string& type, const std::string& meaning) {
  return command.add_option(name, value, meaning)->type_name(type)->capture_default_str();
}

/// Adds the positional argument RUN: a trained model.
CLI::Option* add_run_argument(CLI::App& command, std::string& path);

/// The positional arguments CONFIG and OVERRIDES.
struct ConfigArguments {
  std::string path;
  std::vector<std::string> overrides;

  void add_to(CLI::App& command);
  /// The configuration. If the file is the config.yaml of a run, relative paths in it are those of
  /// the folder in which that run was started.
  Config load() const;
};

/// The arguments of `smoe train`, which `smoe launch` passes on.
struct TrainArguments {
  ConfigArguments config;
  std::string change;  ///< keys that may change in a resumed run, separated by commas
  bool print_config = false;

  void add_to(CLI::App& command);
};

}  // namespace smoe
