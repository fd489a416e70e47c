#include "core/system/crash_trace.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace smoe {
namespace {

constexpr std::array kFatalSignals = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr int kMaxFrames = 64;

// The handler's own stack, since that of the thread may be what is exhausted.
alignas(16) std::array<char, std::size_t{256} << 10> handler_stack;
std::atomic<int> trace_file{-1};

// The functions below run in the handler: only async-signal-safe calls are allowed.

void write_text(int descriptor, const char* text) {
  static_cast<void>(!::write(descriptor, text, std::strlen(text)));
}

// Not async-signal-safe, as it allocates: a crash in the allocator may end here, by the timer,
// which is why the trace is written before.
void write_names(int descriptor, void* const* frames, int count) {
  for (int i = 0; i < count; ++i) {
    Dl_info info{};
    // A return address is that of the next instruction, which may belong to the next function.
    if (::dladdr(static_cast<char*>(frames[i]) - 1, &info) == 0 || info.dli_sname == nullptr)
      continue;
    int status = 0;
    char* const name = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    write_text(descriptor, "  in ");
    write_text(descriptor, status == 0 && name != nullptr ? name : info.dli_sname);
    write_text(descriptor, "\n");
    std::free(name);
  }
}

// The handler is reset when it is entered, so the signal of the timer ends the process.
void raise_after_a_second(int signal) {
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = signal;
  int timer = 0;  // what the kernel, unlike timer_create, takes without allocating
  itimerspec second{};
  second.it_value.tv_sec = 1;
  if (::syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0)
    ::syscall(SYS_timer_settime, timer, 0, &second, nullptr);
}

extern "C" void write_crash_trace(int signal) {
  raise_after_a_second(signal);
  std::array<void*, kMaxFrames> frames;
  const int count = ::backtrace(frames.data(), kMaxFrames);
  for (const int descriptor : {STDERR_FILENO, trace_file.load()}) {
    if (descriptor < 0) continue;
    write_text(descriptor, "fatal signal SIG");
    write_text(descriptor, ::sigabbrev_np(signal));
    write_text(descriptor, "; stack of its thread:\n");
    ::backtrace_symbols_fd(frames.data(), count, descriptor);
  }
  for (const int descriptor : {STDERR_FILENO, trace_file.load()})
    if (descriptor >= 0) write_names(descriptor, frames.data(), count);
  ::raise(signal);
}

void set_handler_stack(int flags) {
  stack_t stack{};
  stack.ss_sp = handler_stack.data();
  stack.ss_size = handler_stack.size();
  stack.ss_flags = flags;
  ::sigaltstack(&stack, nullptr);
}

}  // namespace

CrashTrace::CrashTrace(const std::string& path) {
  if (!path.empty()) {
    file_ = Descriptor(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666));
  }
  trace_file = file_.is_open() ? file_.number() : -1;
  void* frame = nullptr;
  ::backtrace(&frame, 1);  // loads what the first call needs
  set_handler_stack(0);
  for (const int signal : kFatalSignals) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
    action.sa_handler = write_crash_trace;
    action.sa_flags = static_cast<int>(SA_ONSTACK | SA_RESETHAND | SA_NODEFER);
    ::sigaction(signal, &action, nullptr);
  }
}

CrashTrace::~CrashTrace() {
  for (const int signal : kFatalSignals) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == write_crash_trace)
      ::signal(signal, SIG_DFL);
  }
  set_handler_stack(SS_DISABLE);
  trace_file = -1;
}

}  // namespace smoe
