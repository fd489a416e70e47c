// Work on bytes that nobody vouches for, by libraries that cannot be trusted to withstand them:
// done in a process of its own, which is this program started again with nothing open but the input
// and the answer, and with limits. Whatever the bytes make of that process, the caller gets an
// answer of bounded size or an error within bounded time.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace smoe {

struct SandboxLimits {
  int seconds = 30;                                   ///< of wall clock
  int cpu_seconds = 10;                               ///< of processor time
  std::int64_t memory_bytes = std::int64_t{1} << 29;  ///< of data; no limit under a sanitizer
  std::int64_t answer_bytes = std::int64_t{4} << 20;
};

/// A piece of work for a process of its own. Such objects are constants at namespace scope: the
/// process finds its work among them by name.
class SandboxedTask {
 public:
  /// Gets the input and returns the answer. It can open no file and start no process.
  using Work = std::string (*)(std::string_view input);

  /// `name` outlives the object and is one that no other task has.
  SandboxedTask(const char* name, Work work, const SandboxLimits& limits = {});
  SandboxedTask(const SandboxedTask&) = delete;
  SandboxedTask& operator=(const SandboxedTask&) = delete;

  /// What `work` returns for `input`, which is a part of the file `path`. The answer is still
  /// nothing to rely on: bytes that took the process over can make it say anything.
  /// Throws: UsageError `path: ...` with what `work` threw, or with how the process ended when it
  /// crashed or reached a limit; SystemError when it cannot be started.
  std::string run(std::string_view input, const std::string& path) const;

  const char* name() const { return name_; }

 private:
  friend void serve_sandboxed_task(int argc, char** argv);
  [[noreturn]] void serve() const;

  const char* name_;
  Work work_;
  SandboxLimits limits_;
};

/// To be called first in main: where SandboxedTask::run started this process, does the task and
/// ends the process; returns in every other.
void serve_sandboxed_task(int argc, char** argv);

}  // namespace smoe
