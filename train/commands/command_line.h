// The command line of `smoe`: global options and selection of the subcommand.
#pragma once

namespace smoe {

/// Parses the command line and runs its subcommand, or prints the requested help or version.
/// Returns the exit code.
/// Throws: UsageError if the command line is invalid; what the subcommand throws.
int run_command_line(int argc, const char* const* argv);

}  // namespace smoe
