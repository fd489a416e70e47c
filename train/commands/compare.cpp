// `smoe compare RUN...`: results and curves of several runs side by side.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/system/file.h"
#include "core/system/folder.h"
#include "train/commands/commands.h"
#include "train/compare/compare_page.h"
#include "train/config/run_paths.h"

namespace smoe {
namespace {

struct CompareFlags {
  std::vector<std::string> runs;
  std::string output;
};

int run_compare(const CompareFlags& flags) {
  for (const std::string& folder : flags.runs)
    check_is_no_input(flags.output,
                      {RunPaths(folder).metrics_path(), RunPaths(folder).config_path()});
  const std::vector<ComparedRun> runs = read_runs(
      flags.runs, [](const std::string& line) { std::cerr << "warning: " << line << std::endl; });
  std::cout << compare_text(runs);
  if (flags.output.empty()) return 0;
  write_file_atomically(flags.output, compare_page(runs));
  std::cout << "\n" << flags.output << "\n";
  return 0;
}

}  // namespace

Command add_compare_command(CLI::App& app) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* command = app.add_subcommand("compare", "Compare runs: results, keys, curves");
  command->add_option("RUNS", flags->runs, "Folders of at least two runs, finished or not")
      ->required()
      ->type_name("PATH");
  command->add_option("--output", flags->output, "Page to write, with the curves over each other")
      ->type_name("FILE");
  command->footer(
      "Prints the final figures of the runs and the configuration keys in which they differ.\n"
      "\n"
      "Examples:\n"
      "  smoe compare runs/tiny runs/low-lr\n"
      "  smoe compare runs/tiny runs/low-lr --output compare.html");
  return {command, [flags] { return run_compare(*flags); }};
}

}  // namespace smoe
