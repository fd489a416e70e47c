#include "train/launch/process_group.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <charconv>
#include <system_error>
#include <thread>

#include "core/base/check.h"
#include "core/system/deadline.h"
#include "core/system/file.h"

namespace smoe {
namespace {

[[noreturn]] void fail(const std::string& what, int error) {
  throw SystemError(concat("launch: ", what, ": ", std::generic_category().message(error)));
}

struct Pipe {
  Descriptor read_end;
  Descriptor write_end;
};

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe", errno);
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

// Kills the group when the launcher, of which `launcher` is a pidfd, has exited. Runs in a fork:
// only async-signal-safe functions are allowed.
[[noreturn]] void guard(int launcher) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_NAME, "smoe-guard");
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::dup2(launcher, 0);
  ::close_range(1, ~0u, 0);  // a pipe held open here would not be closed with the launcher
  pollfd entry{0, POLLIN, 0};
  while (::poll(&entry, 1, -1) != 1) {
  }
  ::kill(0, SIGKILL);
  ::_exit(0);
}

/// The arguments of exec, prepared before the fork, since the child must not allocate memory.
struct ExecArguments {
  explicit ExecArguments(const ProgramCall& call) : program(call.program), texts(call.arguments) {
    const std::size_t num_arguments = texts.size();
    for (char** entry = environ; *entry; ++entry) {
      const std::string text = *entry;
      if (!call.variables.count(text.substr(0, text.find('=')))) texts.push_back(text);
    }
    for (const auto& [name, value] : call.variables) texts.push_back(name + "=" + value);
    for (std::size_t i = 0; i < texts.size(); ++i)
      (i < num_arguments ? arguments : environment).push_back(texts[i].data());
    arguments.push_back(nullptr);
    environment.push_back(nullptr);
  }

  std::string program;
  std::vector<std::string> texts;
  std::vector<char*> arguments;
  std::vector<char*> environment;
};

/// Runs in the child, with the restrictions of guard(). If the program cannot be run, writes errno
/// to `failed`.
[[noreturn]] void exec_child(const ExecArguments& what, pid_t launcher, pid_t group, int input,
                             int output, int error, int failed) {
  ::setpgid(0, group);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launcher) ::_exit(1);  // the launcher exited before prctl
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(error, STDERR_FILENO);
  struct sigaction by_default {};
  by_default.sa_handler = SIG_DFL;
  ::sigaction(SIGPIPE, &by_default, nullptr);  // ignored in the launcher
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvpe(what.program.c_str(), what.arguments.data(), what.environment.data());
  const int reason = errno;
  [[maybe_unused]] const ssize_t written = ::write(failed, &reason, sizeof reason);
  ::_exit(127);
}

// The children of this process, including inherited ones, as far as the kernel lists them.
std::vector<pid_t> children() {
  std::string text(std::size_t{1} << 16, '\0');
  try {
    const std::string thread = std::to_string(::getpid());
    const File list = File::open("/proc/self/task/" + thread + "/children");
    text.resize(list.read_some_at(0, text.data(), static_cast<std::int64_t>(text.size())));
  } catch (const SystemError&) {  // the kernel has no such lists, or no descriptor is left
    return {};
  }
  std::vector<pid_t> pids;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end; ++at) {
    pid_t pid = 0;
    const auto [stop, error] = std::from_chars(at, end, pid);
    if (error == std::errc()) pids.push_back(pid);
    at = stop;
  }
  return pids;
}

}  // namespace

ProcessGroup::ProcessGroup() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) fail("PR_SET_CHILD_SUBREAPER", errno);
  // glibc 2.36 declares pidfd_open for C only.
  const Descriptor launcher(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!launcher.is_open()) fail("pidfd_open", errno);
  guard_ = ::fork();
  if (guard_ < 0) fail("fork", errno);
  if (guard_ == 0) guard(launcher.number());
  ::setpgid(guard_, guard_);  // in parent and child, since either may run first
}

ProcessGroup::~ProcessGroup() {
  kill_all();
}

Child ProcessGroup::start(const ProgramCall& call) {
  const ExecArguments prepared(call);
  const pid_t launcher = ::getpid();
  Pipe input = make_pipe(), output = make_pipe(), error = make_pipe(), failed = make_pipe();
  Child child;
  child.pid = ::fork();
  if (child.pid < 0) fail("fork", errno);
  if (child.pid == 0)
    exec_child(prepared, launcher, guard_, input.read_end.number(), output.write_end.number(),
               error.write_end.number(), failed.write_end.number());
  ::setpgid(child.pid, guard_);
  failed.write_end.close();
  int reason = 0;
  ssize_t got = 0;
  do {
    got = ::read(failed.read_end.number(), &reason, sizeof reason);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    ::waitpid(child.pid, nullptr, 0);
    fail("cannot run " + call.program, reason);
  }
  for (Pipe* pipe : {&output, &error}) ::fcntl(pipe->read_end.number(), F_SETFL, O_NONBLOCK);
  child.output = std::move(output.read_end);
  child.error = std::move(error.read_end);
  return child;
}

void ProcessGroup::kill() const {
  ::kill(-guard_, SIGKILL);
}

bool ProcessGroup::kill_all(double limit_s) {
  if (guard_ == 0) return true;
  kill();
  guard_ = 0;
  for (const Deadline deadline = Deadline::in(limit_s); !deadline.has_passed();) {
    pid_t ended = 0;
    do {
      ended = ::waitpid(-1, nullptr, WNOHANG);
    } while (ended > 0);
    if (ended < 0) return true;  // no children are left
    for (const pid_t pid : children()) ::kill(pid, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

}  // namespace smoe
