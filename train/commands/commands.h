// The subcommands of `smoe`. To add one: a file here, its declaration below and its line in
// command_line.cpp.
#pragma once
#include <functional>

namespace CLI {
class App;
}

namespace smoe {

/// A subcommand: its part of the command line, and what it does once that is parsed.
struct Command {
  CLI::App* parser;          ///< owned by the application it was added to
  std::function<int()> run;  ///< returns the exit code, 0 if all is done; failures are exceptions
};

Command add_prepare_command(CLI::App& app);
Command add_train_command(CLI::App& app);
Command add_launch_command(CLI::App& app);
Command add_eval_command(CLI::App& app);
Command add_generate_command(CLI::App& app);
Command add_plan_command(CLI::App& app);
Command add_import_command(CLI::App& app);
Command add_export_command(CLI::App& app);
Command add_report_command(CLI::App& app);
Command add_inspect_command(CLI::App& app);

}  // namespace smoe
