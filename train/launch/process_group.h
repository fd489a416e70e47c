// The processes that the launcher starts, and the promise that none outlives it.
#pragma once
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "core/system/descriptor.h"

namespace smoe {

/// What to run: the program, looked for on PATH unless it has a slash, its arguments, the first of
/// which is its name, and what is added to the environment.
struct ProgramCall {
  std::string program;
  std::vector<std::string> arguments;
  std::map<std::string, std::string> variables;
};

/// A process that runs, and the ends from which its output is read without waiting.
struct Child {
  pid_t pid = 0;
  Descriptor output;
  Descriptor error;
};

/// A process group of children. It dies with the launcher, however that ends: the kernel kills each
/// child (PR_SET_PDEATHSIG), and a guard, which leads the group and does nothing but wait for the
/// launcher's end, kills what the children have started. Only what left the group by a call of its
/// own can stay behind then; while the launcher lives, end() finds even that.
/// For the main thread alone, since the kernel's promise is tied to the thread that starts a child.
class ProcessGroup {
 public:
  /// Makes this process the one that inherits orphans of its children. Throws: SystemError.
  ProcessGroup();
  /// As end().
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  /// Starts a child with nothing to read, an empty signal mask and no signal ignored but those that
  /// this process was started with. Throws: SystemError when it cannot be run; says why.
  Child start(const ProgramCall& call);

  /// Sends SIGKILL to all of the group.
  void kill() const;
  /// Kills all children, also those that left the group or were inherited, and collects them.
  /// Returns false when some did not go within `limit_s` seconds, as in an uninterruptible call.
  bool end(double limit_s = 2);

 private:
  pid_t guard_ = 0;
};

}  // namespace smoe
