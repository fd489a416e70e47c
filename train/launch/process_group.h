// ProcessGroup: the processes that the launcher starts; none of them outlives it.
#pragma once
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "core/system/descriptor.h"

namespace smoe {

/// A program to run, searched on PATH unless it contains a slash; its arguments, of which the first
/// is its name; and variables to add to the environment.
struct ProgramCall {
  std::string program;
  std::vector<std::string> arguments;
  std::map<std::string, std::string> variables;
};

/// A running process and the non-blocking read ends of its output pipes.
struct Child {
  pid_t pid = 0;
  Descriptor output;
  Descriptor error;
};

/// A process group of children that never outlives the launcher, however that ends: the kernel
/// kills each child (PR_SET_PDEATHSIG), and a guard process, which leads the group and waits for
/// the launcher's end, kills their descendants. Only descendants that left the group can then
/// survive; while the launcher lives, kill_all() finds even those. For the main thread only, since
/// PR_SET_PDEATHSIG is tied to the thread that starts a child.
class ProcessGroup {
 public:
  /// Makes this process the subreaper of its descendants. Throws: SystemError.
  ProcessGroup();
  /// Calls kill_all().
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  /// Starts a child with empty standard input and signal mask; only signals that this process
  /// inherited as ignored are ignored. Throws: SystemError with the reason when it cannot be run.
  Child start(const ProgramCall& call);

  /// Sends SIGKILL to the whole group.
  void kill() const;
  /// Kills and reaps all children, including those that left the group or were inherited. Returns
  /// false when some did not exit within `limit_s` seconds, as in an uninterruptible call.
  bool kill_all(double limit_s = 2);

 private:
  pid_t guard_ = 0;
};

}  // namespace smoe
