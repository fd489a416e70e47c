#include "train/commands/command_line.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <vector>

#include "core/base/check.h"
#include "core/system/standard_output.h"
#include "core/version.h"
#include "train/commands/build_info.h"
#include "train/commands/commands.h"
#include "train/commands/with_progress.h"
#include "train/config/key_hint.h"

namespace smoe {
namespace {

/// The innermost parsed subcommand, for messages: "smoe train".
std::string name_of_parsed(const CLI::App& app) {
  const auto named = app.get_subcommands();
  return named.empty() ? app.get_name() : app.get_name() + " " + named.front()->get_name();
}

/// A library names an option by its field, "generate: max_tokens must be ..."; for people it is the
/// command's flag: "--max-tokens: must be ...". Other messages stay.
std::string with_flag_name(const CLI::App& command, const std::string& message) {
  const std::string prefix = command.get_name() + ": ";
  const std::size_t end = message.find(' ', prefix.size());
  if (!message.starts_with(prefix) || end == std::string::npos) return message;
  std::string flag = "--" + message.substr(prefix.size(), end - prefix.size());
  std::replace(flag.begin(), flag.end(), '_', '-');
  if (command.get_option_no_throw(flag) == nullptr) return message;
  return concat(flag, ":", message.substr(end));
}

int run_named(const Command& command) {
  try {
    return command.run();
  } catch (const Unfinished& unfinished) {
    std::cerr << "smoe " << command.parser->get_name() << ": stopped by "
              << signal_name(unfinished.signal) << unfinished.consequence << "\n";
    return exit_code_of_signal(unfinished.signal);
  } catch (const UsageError& error) {
    throw UsageError(with_flag_name(*command.parser, error.what()));
  }
}

/// "; did you mean train?" for a misspelled command; otherwise how to list all.
std::string hint_for(const std::vector<Command>& commands, const std::string& unknown) {
  std::size_t least_edits = std::max<std::size_t>(2, unknown.size() / 3) + 1;
  std::string nearest;
  for (const Command& command : commands) {
    const std::string name = command.parser->get_name();
    const std::size_t edits = edit_distance(unknown.substr(0, 64), name);
    if (edits >= std::min(least_edits, name.size())) continue;
    least_edits = edits;
    nearest = name;
  }
  return nearest.empty() ? "; see smoe --help" : concat("; did you mean ", nearest, "?");
}

}  // namespace

int run_command_line(int argc, const char* const* argv) {
  CLI::App app("Trains sparse mixture-of-experts transformers.", "smoe");
  app.set_version_flag("--version", "smoe " SMOE_VERSION " (" SMOE_BUILD ")");
  app.require_subcommand(0, 1);  // checked below, so that a misspelled one is reported first
  app.footer("`smoe COMMAND --help` shows a command's options and examples.");
  const std::vector<Command> commands = {
      add_tokenizer_command(app), add_prepare_command(app), add_plan_command(app),
      add_train_command(app),     add_launch_command(app),  add_eval_command(app),
      add_generate_command(app),  add_report_command(app),  add_inspect_command(app),
      add_import_command(app),    add_export_command(app),  add_init_command(app),
      add_profile_command(app),   add_doctor_command(app),  add_bench_command(app),
      add_compare_command(app),
  };

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help or --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    if (argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty())
      throw UsageError(concat("smoe: unknown command ", argv[1], hint_for(commands, argv[1])));
    const std::string name = name_of_parsed(app);
    throw UsageError(concat(name, ": ", error.what(), "; see ", name, " --help"));
  }

  const auto named = std::find_if(commands.begin(), commands.end(),
                                  [](const Command& command) { return command.parser->parsed(); });
  SMOE_CHECK(named != commands.end(), "smoe: a command is required; see smoe --help");
  const int exit_code = run_named(*named);
  if (!std::cout.flush() && !is_reader_gone(STDOUT_FILENO))
    throw SystemError("standard output: could not be written");
  return exit_code;
}

}  // namespace smoe
