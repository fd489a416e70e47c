#include "core/system/sandbox.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "tests/support/text.h"

using namespace smoe;
using namespace smoe::test;

namespace {

// Sanitizers need memory and descriptors of their own, so those limits are off.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

constexpr SandboxLimits kTight = {
    .seconds = 1, .cpu_seconds = 1, .memory_bytes = 64 << 20, .result_bytes = 1000};

std::string echo(std::string_view input) {
  return std::string(input);
}
std::string throw_usage_error(std::string_view input) {
  throw UsageError(concat("rule; got ", input));
}
std::string crash(std::string_view) {
  ::raise(SIGSEGV);
  return "still here";
}
std::string leave(std::string_view) {
  ::_exit(7);
}
std::string spin(std::string_view) {
  for (std::atomic<int> turns = 0;; ++turns) {
  }
}
std::string sleep_on(std::string_view) {
  ::alarm(0);
  ::close(STDOUT_FILENO);
  for (;;) ::pause();
}
std::string sleep_silently(std::string_view) {
  ::alarm(0);
  for (;;) ::pause();
}
std::string allocate(std::string_view) {
  std::vector<std::unique_ptr<char[]>> blocks;
  for (;;) blocks.push_back(std::make_unique<char[]>(1 << 20));
}
// Lists what could be opened.
std::string open_things(std::string_view input) {
  const std::string path(input);
  std::string opened;
  for (int descriptor = 0; descriptor < 1000; ++descriptor)
    if (descriptor > 2 && ::fcntl(descriptor, F_GETFD) >= 0) opened += "inherited ";
  if (::getenv("HDF5_PLUGIN_PATH") || ::getenv("HOME")) opened += "environment ";
  if (kIsSanitized) return opened;
  if (::open(path.c_str(), O_RDONLY) >= 0) opened += "read ";
  if (::open("/tmp", O_RDWR | O_TMPFILE, 0600) >= 0) opened += "created ";
  if (::socket(AF_UNIX, SOCK_STREAM, 0) >= 0) opened += "socket ";
  if (::dup(0) >= 0) opened += "dup ";
  return opened;
}
// Writes the input as the result frame.
std::string forge(std::string_view input) {
  if (::write(STDOUT_FILENO, input.data(), input.size()) < 0) return "unwritten";
  ::_exit(0);
}

const SandboxedTask kEcho("test-echo", echo);
const SandboxedTask kShortEcho("test-short-echo", echo, kTight);
const SandboxedTask kThrow("test-throw", throw_usage_error);
const SandboxedTask kCrash("test-crash", crash);
const SandboxedTask kLeave("test-leave", leave);
const SandboxedTask kSpin("test-spin", spin, {.cpu_seconds = 1});
const SandboxedTask kSleep("test-sleep", sleep_on, kTight);
const SandboxedTask kSleepSilently("test-sleep-silently", sleep_silently, kTight);
const SandboxedTask kAllocate("test-allocate", allocate, kTight);
const SandboxedTask kOpen("test-open", open_things);
const SandboxedTask kForge("test-forge", forge, kTight);

std::string message_of(const SandboxedTask& task, std::string_view input = {}) {
  try {
    return "no error: " + task.run(input, "a.h5");
  } catch (const UsageError& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("a task returns the result of its function") {
  CHECK(kEcho.run("", "a") == "");
  std::string bytes(3'000'000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7);
  CHECK(kEcho.run(bytes, "a") == bytes);
  CHECK(kShortEcho.run(bytes.substr(0, 1000), "a") == bytes.substr(0, 1000));
}

TEST_CASE("an error is one short line that names the file") {
  CHECK(message_of(kThrow, "x") == "a.h5: rule; got x");
  const std::string message = message_of(kThrow, "two\nlines\x1b " + std::string(5000, 'y'));
  CHECK(contains(message, "a.h5: rule; got two\\nlines\\x1b yyy"));
  CHECK(message.size() < 500);
}

TEST_CASE("a process that crashes, exits early or sends a malformed result is an error") {
  CHECK(contains(message_of(kCrash), "a.h5: damaged: the process for test-crash"));
  CHECK(contains(message_of(kCrash), "without a result"));
  CHECK(contains(message_of(kLeave), "exited with code 7 without a result"));
  CHECK(contains(message_of(kForge, ""), "without a result"));
  CHECK(contains(message_of(kForge, "a"), "without a result"));
  CHECK(contains(message_of(kForge, std::string("a\5\0\0\0\0\0\0\0four", 13)), "without a result"));
  CHECK(contains(message_of(kForge, std::string(9, '\xff')), "without a result"));
  CHECK(kForge.run(std::string("a\4\0\0\0\0\0\0\0four", 13), "a.h5") == "four");
}

TEST_CASE("limits stop a task that does not finish") {
  const auto begin = std::chrono::steady_clock::now();
  CHECK(contains(message_of(kShortEcho, std::string(1001, 'x')), "must return at most 1000 bytes"));
  CHECK(
      contains(message_of(kSpin), "a.h5: damaged: the process for test-spin was killed by signal"));
  CHECK(contains(message_of(kSleep), "without a result"));
  CHECK(contains(message_of(kSleepSilently), "must finish within 1 s; it took longer"));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  CHECK(elapsed.count() < 20);
  if (kIsSanitized) return;
  CHECK(message_of(kAllocate) ==
        "a.h5: damaged: test-allocate must run within 64 MiB of memory; it needs more");
}

TEST_CASE("a task can read only its input and open nothing") {
  ::setenv("HDF5_PLUGIN_PATH", "/tmp", 1);
  const int kept = ::open("/etc/passwd", O_RDONLY);  // not closed on exec
  CHECK(kept > 2);
  CHECK(kOpen.run("/etc/passwd", "a") == "");
  ::close(kept);
  ::unsetenv("HDF5_PLUGIN_PATH");
}
