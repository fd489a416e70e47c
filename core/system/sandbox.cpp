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

// The command line of a confined process: PROGRAM sandboxed-task NAME. No command of the program,
// so its help does not list it.
constexpr const char* kCommand = "sandboxed-task";
constexpr const char* kMark = "SMOE_SANDBOXED";  // in the environment of a confined process

// An answer is a kind, the number of bytes that follow, and these.
enum class Kind : char { answer = 'a', error = 'e' };
constexpr std::size_t kFrameBytes = 1 + sizeof(std::uint64_t);
constexpr std::size_t kMaxErrorBytes = 400;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// With shadow memory beyond any limit, reports on stderr, and pipes to find out what is readable.
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

std::vector<const SandboxedTask*>& tasks() {
  static std::vector<const SandboxedTask*> all;
  return all;
}

[[noreturn]] void fail(const char* call, int error) {
  throw SystemError(concat("confined task: ", call, ": ", std::generic_category().message(error)));
}

int checked(const char* call, int result) {
  if (result < 0) fail(call, errno);
  return result;
}

// --- In the confined process ---

void limit(int resource, rlim_t value) {
  rlimit now;
  checked("getrlimit", ::getrlimit(resource, &now));
  const rlim_t bounded = std::min(value, now.rlim_max);
  now = {bounded, bounded};
  checked("setrlimit", ::setrlimit(resource, &now));
}

// Takes away what the task does not need, for good.
void confine(const SandboxLimits& limits) {
  ::alarm(static_cast<unsigned>(limits.seconds));  // whatever becomes of the other process
  checked("prctl", ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  ::close_range(3, ~0u, 0);  // what is open here was opened by no one of us; old systems lack it
  // From here on no file, socket or pipe can be opened.
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

void write_answer(Kind kind, std::string_view body) {
  const std::uint64_t size = body.size();
  std::string frame(1, static_cast<char>(kind));
  frame.append(reinterpret_cast<const char*>(&size), sizeof size);
  frame += body;
  for (std::string_view rest = frame; !rest.empty();) {
    const auto written = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (written < 0) return;  // nobody listens any more
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

// --- In the process that asks ---

// A file without a name that holds `bytes`.
int memory_file(std::string_view bytes) {
  const int file = checked("memfd_create", ::memfd_create("confined-input", MFD_CLOEXEC));
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

// What a confined process may know of our environment: how to load and to sanitize.
std::vector<std::string> confined_environment() {
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

// Starts this program again, with `input` and `answer` for its standard input and output.
pid_t start(const char* task, int input, int answer) {
  std::vector<std::string> words = {"smoe", kCommand, task};
  std::vector<std::string> variables = confined_environment();
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, answer, STDOUT_FILENO);
  if (!kIsSanitized)
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // A polite signal to the whole process group is not for this process, which ends soon anyway.
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

// Ends the process, if it has not by itself, and returns how it ended.
std::string end(pid_t process) {
  // One that closed its answer may still be there. What is ending already keeps its own ending.
  ::kill(process, SIGKILL);
  int status = 0;
  pid_t ended;
  while ((ended = ::waitpid(process, &status, 0)) < 0 && errno == EINTR) {
  }
  if (ended < 0) return "ended";  // where SIGCHLD is ignored, the system keeps no status
  if (WIFSIGNALED(status)) return concat("was ended by signal ", WTERMSIG(status));
  return concat("ended with code ", WEXITSTATUS(status));
}

// Up to `max_bytes` + 1 bytes of what comes out of the pipe; nothing when time is up.
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

SandboxedTask::SandboxedTask(const char* name, Work work, const SandboxLimits& limits)
    : name_(name), work_(work), limits_(limits) {
  tasks().push_back(this);
}

std::string SandboxedTask::run(std::string_view input, const std::string& path) const {
  // A program whose main does not serve tasks would otherwise start itself without end.
  SMOE_INTERNAL_CHECK(::getenv(kMark) == nullptr, "confined task ", name_,
                      ": asked for by a confined process");
  const Descriptor file(memory_file(input));
  int ends[2];
  checked("pipe2", ::pipe2(ends, O_CLOEXEC));
  const Descriptor from(ends[0]);
  Descriptor to(ends[1]);
  const pid_t process = start(name_, file.number(), to.number());
  to.close();
  const auto max_bytes = static_cast<std::size_t>(limits_.answer_bytes);
  std::optional<std::string> frame;
  try {
    frame = read_all(from.number(), kFrameBytes + max_bytes, limits_.seconds);
  } catch (...) {
    end(process);
    throw;
  }
  const std::string ending = end(process);
  SMOE_CHECK(frame, path, ": damaged: ", name_, " must be done in ", limits_.seconds,
             " s; it took more");
  SMOE_CHECK(frame->size() <= kFrameBytes + max_bytes, path, ": damaged: ", name_,
             " must answer in ", max_bytes, " bytes; it said more");

  std::uint64_t size = 0;
  if (frame->size() >= kFrameBytes) std::memcpy(&size, frame->data() + 1, sizeof size);
  SMOE_CHECK(frame->size() >= kFrameBytes && size == frame->size() - kFrameBytes, path,
             ": damaged: the process for ", name_, " ", ending, " without an answer");
  const char kind = frame->front();
  frame->erase(0, kFrameBytes);
  if (kind == static_cast<char>(Kind::answer)) return *std::move(frame);
  throw UsageError(concat(path, ": ", printable(*frame, kMaxErrorBytes)));
}

void SandboxedTask::serve() const {
  try {
    confine(limits_);
    write_answer(Kind::answer, work_(read_input()));
  } catch (const std::bad_alloc&) {
    write_answer(Kind::error, concat("damaged: ", name_, " must be done in ",
                                     limits_.memory_bytes >> 20, " MiB; it asked for more"));
  } catch (const std::exception& error) {
    write_answer(Kind::error, error.what());
  }
  // No destructor and no handler of a library runs on what the input left behind.
  ::_exit(0);
}

void serve_sandboxed_task(int argc, char** argv) {
  if (argc != 3 || std::string_view(argv[1]) != kCommand || !::getenv(kMark)) return;
  for (const SandboxedTask* task : tasks())
    if (std::string_view(task->name()) == argv[2]) task->serve();
}

}  // namespace smoe
