// `smoe report RUN`: regenerates the report.html of a run from its metrics and configuration.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "core/base/check.h"
#include "core/system/file.h"
#include "core/system/folder.h"
#include "core/system/format.h"
#include "train/commands/commands.h"
#include "train/config/run_paths.h"
#include "train/report/metrics_file.h"
#include "train/report/report_page.h"
#include "train/report/run_folder.h"

namespace smoe {
namespace {

struct ReportFlags {
  std::string run, output;
};

int run_report(const ReportFlags& options) {
  const RunPaths paths(options.run);
  for (const std::string& part : {paths.metrics_path(), paths.config_path()})
    SMOE_CHECK(kind_of(part) == PathKind::file, options.run,
               ": must be the folder of a run; got one without ", name_of_path(part));
  const Config config = load_config(paths.config_path());
  RunHistory history;
  read_metrics(
      paths.metrics_path(), [&](const Report& report) { history.add(report); },
      [](const std::string& line) { std::cerr << "warning: " << line << std::endl; });
  const std::string output = options.output.empty() ? paths.report_path() : options.output;
  check_is_no_input(output, {paths.metrics_path(), paths.config_path()});
  const RunState state = is_written(paths.path()) ? RunState::running : ended_state(history);
  write_file_atomically(output, report_page(history, config, {state, utc_time()}));
  std::cout << output << "\n";
  return 0;
}

}  // namespace

Command add_report_command(CLI::App& app) {
  auto options = std::make_shared<ReportFlags>();
  CLI::App* command = app.add_subcommand("report", "Regenerate the report.html of a run");
  command->add_option("RUN", options->run, "Folder of a run, finished or not")->required();
  command
      ->add_option("--output", options->output,
                   "Page to write; by default report.html in the folder of the run")
      ->type_name("FILE");
  command->footer(
      "A run updates its page itself; this command is for killed runs and for copies.\n"
      "\n"
      "Examples:\n"
      "  smoe report runs/tiny\n"
      "  smoe report runs/tiny --output /tmp/tiny.html");
  return {command, [options] { return run_report(*options); }};
}

}  // namespace smoe
