// The command line of `smoe`: global options, choice of the subcommand.
#pragma once

namespace smoe {

/// Parses the command line and runs the subcommand it names, or prints the help or version asked
/// for. Returns the exit code.
/// Throws: UsageError if the command line is wrong; whatever the subcommand throws.
int run_command_line(int argc, const char* const* argv);

}  // namespace smoe
