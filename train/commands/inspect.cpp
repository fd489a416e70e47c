// `smoe inspect PATH...`: shows the contents of the files and folders that smoe reads and writes.
#include "train/inspect/inspect.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "train/commands/commands.h"

namespace smoe {
namespace {

struct InspectFlags {
  std::vector<std::string> paths;
  InspectOptions inspect;
};

int run_inspect(const InspectFlags& options) {
  for (std::size_t i = 0; i < options.paths.size(); ++i)
    std::cout << (i > 0 ? "\n" : "") << inspect(options.paths[i], options.inspect) << std::flush;
  return 0;
}

}  // namespace

Command add_inspect_command(CLI::App& app) {
  auto options = std::make_shared<InspectFlags>();
  CLI::App* command = app.add_subcommand("inspect", "Show the contents of a file or folder");
  command
      ->add_option("PATH", options->paths,
                   "Configuration (*.yaml), token set (*.h5), checkpoint, folder of a run, "
                   "safetensors file or folder of them, tokenizer (*.model, tokenizer.json)")
      ->required()
      ->type_name("");
  command->add_flag("--verify", options->inspect.is_verified,
                    "Read all data and compare all digests");
  command->add_flag("--each", options->inspect.is_each,
                    "One line per tensor; by default similar tensors share one");
  command->footer(
      "Exits with code 2 and one line that names the file if it is damaged or unknown.\n"
      "\n"
      "Examples:\n"
      "  smoe inspect data/tiny.h5\n"
      "  smoe inspect runs/tiny --verify\n"
      "  smoe inspect runs/tiny/checkpoints/step-00000600 --each\n"
      "  smoe inspect model/model-00001-of-00002.safetensors");
  return {command, [options] { return run_inspect(*options); }};
}

}  // namespace smoe
