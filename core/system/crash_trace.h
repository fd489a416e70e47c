// A stack trace of what ends the process: an invalid access to memory, an abort.
#pragma once
#include <string>

#include "core/system/descriptor.h"

namespace smoe {

/// RAII: on SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGABRT, writes the signal and the stack of its
/// thread to standard error and appends them to a file; the signal then ends the process, at most a
/// second later. Best effort. Signals that have another handler keep it, such as a sanitizer's.
/// At most one instance at a time, in the main thread.
class CrashTrace {
 public:
  /// Opens or creates the file at `path`; with an empty path, or if that fails, there is none.
  explicit CrashTrace(const std::string& path);
  ~CrashTrace();
  CrashTrace(const CrashTrace&) = delete;
  CrashTrace& operator=(const CrashTrace&) = delete;

 private:
  Descriptor file_;
};

}  // namespace smoe
