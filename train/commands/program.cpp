#include "train/commands/program.h"

#include <cstdio>
#include <exception>
#include <new>
#include <string_view>

#include "core/base/check.h"
#include "core/system/process.h"
#include "core/system/sandbox.h"
#include "core/system/text.h"
#include "train/commands/command_line.h"

namespace smoe {
namespace {

int print_error(const char* message, int exit_code) {
  std::fprintf(stderr, "%s\n", printable(message, std::string_view::npos).c_str());
  return exit_code;
}

}  // namespace

// The only place where an exception becomes an exit code.
int run_program(int argc, char** argv) {
  prepare_process();
  serve_sandboxed_task(argc, argv);
  restart_without_openblas_threads(argv);
  try {
    return run_command_line(argc, argv);
  } catch (const UsageError& error) {
    return print_error(error.what(), 2);
  } catch (const std::bad_alloc&) {
    return print_error("smoe: out of memory", 1);
  } catch (const std::exception& error) {
    return print_error(error.what(), 1);
  }
}

}  // namespace smoe
