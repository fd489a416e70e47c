// The subcommands of `smoe`. To add one: a file in this folder, a declaration below and a line in
// command_line.cpp.
#pragma once
#include <functional>

namespace CLI {
class App;
}

namespace smoe {

/// A subcommand: its command line parser, and the function to call after parsing.
struct Command {
  CLI::App* parser;          ///< owned by the application
  std::function<int()> run;  ///< returns the exit code, 0 on success; throws on failure
};

Command add_tokenizer_command(CLI::App& app);  // in prepare.cpp
Command add_prepare_command(CLI::App& app);
Command add_train_command(CLI::App& app);
Command add_launch_command(CLI::App& app);
Command add_eval_command(CLI::App& app);
Command add_generate_command(CLI::App& app);
Command add_plan_command(CLI::App& app);
Command add_profile_command(CLI::App& app);
Command add_doctor_command(CLI::App& app);
Command add_bench_command(CLI::App& app);
Command add_compare_command(CLI::App& app);
Command add_import_command(CLI::App& app);
Command add_export_command(CLI::App& app);
Command add_report_command(CLI::App& app);
Command add_inspect_command(CLI::App& app);
Command add_init_command(CLI::App& app);

}  // namespace smoe
