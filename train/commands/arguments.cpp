#include "train/commands/arguments.h"

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

}  // namespace smoe
