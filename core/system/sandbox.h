// Runs code on untrusted input in a sandboxed subprocess, for libraries that malformed input may
// crash or take over. The subprocess is this program started again with resource limits and with
// nothing open but the input and the result. Whatever the input does to it, the caller gets a
// result of bounded size or an error within bounded time.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace smoe {

struct SandboxLimits {
  int seconds = 30;      ///< wall-clock time
  int cpu_seconds = 10;  ///< processor time
  std::int64_t memory_bytes = std::int64_t{1}
                              << 29;  ///< data segment; not limited under a sanitizer
  std::int64_t result_bytes = std::int64_t{4} << 20;
};

/// A function to run in a subprocess. Objects are constants at namespace scope: the subprocess
/// finds its task among them by name.
class SandboxedTask {
 public:
  /// Maps the input to the result. It cannot open files or start processes.
  using Function = std::string (*)(std::string_view input);

  /// `name` is unique among tasks and outlives the object.
  SandboxedTask(const char* name, Function function, const SandboxLimits& limits = {});
  SandboxedTask(const SandboxedTask&) = delete;
  SandboxedTask& operator=(const SandboxedTask&) = delete;

  /// Returns the function's result for `input`, which comes from the file `path`. The result is as
  /// untrusted as the input, which may have taken over the subprocess.
  /// Throws: UsageError `path: ...` with the function's error, or with how the subprocess ended
  /// when it crashed or exceeded a limit; SystemError when it cannot be started.
  std::string run(std::string_view input, const std::string& path) const;

  const char* name() const { return name_; }

 private:
  friend void serve_sandboxed_task(int argc, char** argv);
  [[noreturn]] void serve() const;

  const char* name_;
  Function function_;
  SandboxLimits limits_;
};

/// To be called first in main: in a process that SandboxedTask::run started, runs the task and
/// exits; in any other it returns.
void serve_sandboxed_task(int argc, char** argv);

}  // namespace smoe
