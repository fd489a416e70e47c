#include "train/commands/arguments.h"

#include "core/system/folder.h"
#include "train/config/run_paths.h"

namespace smoe {

CLI::Option* add_run_argument(CLI::App& command, std::string& path) {
  return command
      .add_option(
          "RUN", path,
          "Folder of a run (uses its newest intact checkpoint) or of one of its checkpoints")
      ->required()
      ->type_name("PATH");
}

void ConfigArguments::add_to(CLI::App& command) {
  command.add_option("CONFIG", path, "YAML file of the run")->required()->type_name("FILE");
  command.add_option("OVERRIDES", overrides, "key.path=value: each overrides one key of CONFIG")
      ->type_name("");
}

namespace {

// The folder in which the run was started whose config.yaml is at `path`: the run's folder is
// `config`'s run.dir/run.name below it. Empty if it is the current one, or there is no such run.
std::string base_of_run(const std::string& path, const Config& config) {
  if (name_of_path(path) != "config.yaml") return "";
  const std::string folder = absolute_path(parent_of(path)), own = "/" + config.run.folder();
  const bool is_run = kind_of(RunPaths(folder).metrics_path()) == PathKind::file;
  const bool is_relative = config.run.dir.front() != '/';
  if (!is_run || !is_relative || !folder.ends_with(own)) return "";
  const std::string base = folder.substr(0, folder.size() - own.size());
  return is_same_path(base, ".") ? "" : base;
}

}  // namespace

Config ConfigArguments::load() const {
  const Config written = load_config(path);
  const std::string base = base_of_run(path, written);
  Config config = load_config(path, overrides);
  if (base.empty()) return config;
  const auto rebase = [&](std::string& value, const std::string& as_written) {
    const bool is_path = !value.empty() && value != "auto" && value != "none";
    if (is_path && value == as_written && value.front() != '/') value = base + "/" + value;
  };
  rebase(config.run.dir, written.run.dir);
  rebase(config.data.path, written.data.path);
  rebase(config.data.validation, written.data.validation);
  rebase(config.train.init_from, written.train.init_from);
  rebase(config.checkpoint.resume, written.checkpoint.resume);
  for (DataSource& source : config.data.sources)
    for (const DataSource& as_written : written.data.sources)
      if (source.name == as_written.name) rebase(source.path, as_written.path);
  return config;
}

void TrainArguments::add_to(CLI::App& command) {
  config.add_to(command);
  command
      .add_option("--change", change,
                  "Keys that a resumed run may change from here on, such as train.steps,optim.lr")
      ->type_name("KEY,...");
  command.add_flag("--print-config", print_config,
                   "Print the configuration with all defaults and overrides, and exit");
}

}  // namespace smoe
