#include "core/system/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/system/descriptor.h"
#include "core/system/text.h"

extern char** environ;

namespace smoe {
namespace {

// The command line of the subprocess is PROGRAM sandboxed-task NAME. It is not a command of the CLI
// and not in its help.
constexpr const char* kCommand = "sandboxed-task";
constexpr const char* kMark = "SMOE_SANDBOXED";  // in the environment of the subprocess

// A result frame is a kind, the number of bytes that follow, and those bytes.
enum class Kind : char { result = 'a', error = 'e' };
constexpr std::size_t kFrameBytes = 1 + sizeof(std::uint64_t);
constexpr std::size_t kMaxErrorBytes = 400;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// Sanitizers need shadow memory beyond any limit, stderr for reports, and pipes to probe memory.
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

std::vector<const SandboxedTask*>& tasks() {
  static std::vector<const SandboxedTask*> all;
  return all;
}

[[noreturn]] void fail(const char* call, int error) {
  throw SystemError(concat("sandboxed task: ", call, ": ", std::generic_category().message(error)));
}

int checked(const char* call, int result) {
  if (result < 0) fail(call, errno);
  return result;
}

// --- In the subprocess ---

void limit(int resource, rlim_t value) {
  rlimit now;
  checked("getrlimit", ::getrlimit(resource, &now));
  const rlim_t bounded = std::min(value, now.rlim_max);
  now = {bounded, bounded};
  checked("setrlimit", ::setrlimit(resource, &now));
}

// Drops every resource that the task does not need, irrevocably.
void enter_sandbox(const SandboxLimits& limits) {
  ::alarm(static_cast<unsigned>(limits.seconds));  // even if the parent is gone
  checked("prctl", ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  ::close_range(3, ~0u, 0);  // inherited descriptors; old kernels lack it
  // From here on neither files nor sockets nor pipes can be opened.
  limit(RLIMIT_NOFILE, kIsSanitized ? 16 : 3);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NPROC, 0);
  limit(RLIMIT_CPU, static_cast<rlim_t>(limits.cpu_seconds));
  if (!kIsSanitized) limit(RLIMIT_DATA, static_cast<rlim_t>(limits.memory_bytes));
}

std::string read_input() {
  struct stat info;
  checked("fstat", ::fstat(STDIN_FILENO, &info));
  std::string input(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t done = 0;
  while (done < input.size()) {
    const auto got =
        ::pread(STDIN_FILENO, input.data() + done, input.size() - done, static_cast<off_t>(done));
    if (got <= 0) fail("pread", got < 0 ? errno : EIO);
    done += static_cast<std::size_t>(got);
  }
  return input;
}

void write_result(Kind kind, std::string_view body) {
  const std::uint64_t size = body.size();
  std::string frame(1, static_cast<char>(kind));
  frame.append(reinterpret_cast<const char*>(&size), sizeof size);
  frame += body;
  for (std::string_view rest = frame; !rest.empty();) {
    const auto written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written < 0) return;  // the parent has closed the pipe
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

// --- In the parent ---

// An anonymous file that holds `bytes`.
int memory_file(std::string_view bytes) {
  const int file = checked("memfd_create", ::memfd_create("sandbox-input", MFD_CLOEXEC));
  for (off_t done = 0; !bytes.empty();) {
    const auto written = ::pwrite(file, bytes.data(), bytes.size(), done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int error = errno;
      ::close(file);
      fail("pwrite", error);
    }
    done += written;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return file;
}

// The environment of the subprocess: only what the loader and the sanitizers need.
std::vector<std::string> sandbox_environment() {
  std::vector<std::string> variables = {concat(kMark, "=1"), "OPENBLAS_NUM_THREADS=1"};
  for (char** variable = environ; *variable; ++variable) {
    const std::string_view text = *variable;
    const std::string_view name = text.substr(0, text.find('='));
    if (name.starts_with("LD_") || name.ends_with("SAN_OPTIONS")) variables.emplace_back(text);
  }
  return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Starts this program again with `input` and `output` as its standard input and output.
pid_t start(const char* task, int input, int output) {
  std::vector<std::string> words = {"smoe", kCommand, task};
  std::vector<std::string> variables = sandbox_environment();
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  if (!kIsSanitized)
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // Termination signals to the process group are for the parent; the subprocess ends soon anyway.
  sigset_t blocked, defaults;
  sigemptyset(&blocked);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) sigaddset(&blocked, signal);
  sigemptyset(&defaults);
  for (const int signal : {SIGPIPE, SIGALRM, SIGXCPU, SIGXFSZ}) sigaddset(&defaults, signal);
  posix_spawnattr_setsigmask(&attributes, &blocked);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t process = -1;
  const int error = ::posix_spawn(&process, "/proc/self/exe", &files, &attributes,
                                  pointers_to(words).data(), pointers_to(variables).data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) fail("start /proc/self/exe", error);
  return process;
}

// Kills the process if it is still running and returns how it ended.
std::string end(pid_t process) {
  // It may have closed its output and still run. A process that is exiting keeps its exit status.
  ::kill(process, SIGKILL);
  int status = 0;
  pid_t ended;
  while ((ended = ::waitpid(process, &status, 0)) < 0 && errno == EINTR) {
  }
  if (ended < 0) return "ended";  // the system keeps no status when SIGCHLD is ignored
  if (WIFSIGNALED(status)) return concat("was killed by signal ", WTERMSIG(status));
  return concat("exited with code ", WEXITSTATUS(status));
}

// Reads the pipe to its end, but at most `max_bytes` + one block; no value when time runs out.
std::optional<std::string> read_all(int pipe, std::size_t max_bytes, int seconds) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::seconds(seconds);
  std::string bytes;
  char block[4096];
  while (bytes.size() <= max_bytes) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return std::nullopt;
    pollfd ready{pipe, POLLIN, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(left.count()));
    if (count < 0 && errno != EINTR) fail("poll", errno);
    if (count <= 0) continue;
    const auto got = ::read(pipe, block, sizeof block);
    if (got < 0 && errno != EINTR) fail("read", errno);
    if (got == 0) break;
    if (got > 0) bytes.append(block, static_cast<std::size_t>(got));
  }
  return bytes;
}

}  // namespace

SandboxedTask::SandboxedTask(const char* name, Function function, const SandboxLimits& limits)
    : name_(name), function_(function), limits_(limits) {
  tasks().push_back(this);
}

std::string SandboxedTask::run(std::string_view input, const std::string& path) const {
  // A program whose main does not call serve_sandboxed_task would start itself endlessly.
  SMOE_INTERNAL_CHECK(::getenv(kMark) == nullptr, "sandboxed task ", name_,
                      ": started from within a sandboxed task");
  const Descriptor file(memory_file(input));
  int ends[2];
  checked("pipe2", ::pipe2(ends, O_CLOEXEC));
  const Descriptor from(ends[0]);
  Descriptor to(ends[1]);
  const pid_t process = start(name_, file.number(), to.number());
  to.close();
  const auto max_bytes = static_cast<std::size_t>(limits_.result_bytes);
  std::optional<std::string> frame;
  try {
    frame = read_all(from.number(), kFrameBytes + max_bytes, limits_.seconds);
  } catch (...) {
    end(process);
    throw;
  }
  const std::string ending = end(process);
  SMOE_CHECK(frame, path, ": damaged: ", name_, " must finish within ", limits_.seconds,
             " s; it took longer");
  SMOE_CHECK(frame->size() <= kFrameBytes + max_bytes, path, ": damaged: ", name_,
             " must return at most ", max_bytes, " bytes; it returned more");

  std::uint64_t size = 0;
  if (frame->size() >= kFrameBytes) std::memcpy(&size, frame->data() + 1, sizeof size);
  SMOE_CHECK(frame->size() >= kFrameBytes && size == frame->size() - kFrameBytes, path,
             ": damaged: the process for ", name_, " ", ending, " without a result");
  const char kind = frame->front();
  frame->erase(0, kFrameBytes);
  if (kind == static_cast<char>(Kind::result)) return *std::move(frame);
  throw UsageError(concat(path, ": ", printable(*frame, kMaxErrorBytes)));
}

void SandboxedTask::serve() const {
  try {
    enter_sandbox(limits_);
    write_result(Kind::result, function_(read_input()));
  } catch (const std::bad_alloc&) {
    write_result(Kind::error, concat("damaged: ", name_, " must run within ",
                                     limits_.memory_bytes >> 20, " MiB of memory; it needs more"));
  } catch (const std::exception& error) {
    write_result(Kind::error, error.what());
  }
  // No destructor or exit handler may run on state that the input has corrupted.
  ::_exit(0);
}

void serve_sandboxed_task(int argc, char** argv) {
  if (argc != 3 || std::string_view(argv[1]) != kCommand || !::getenv(kMark)) return;
  for (const SandboxedTask* task : tasks())
    if (std::string_view(task->name()) == argv[2]) task->serve();
}

}  // namespace smoe
