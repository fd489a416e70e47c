#include "train/signals.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/base/check.h"

using namespace smoe;

namespace {

volatile sig_atomic_t former_calls = 0;
void count_call(int) {
  former_calls = former_calls + 1;
}

}  // namespace

TEST_CASE("the signals set a flag during the object's lifetime; former actions are restored") {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) {
    CAPTURE(signal);
    struct sigaction former {};
    former.sa_handler = count_call;
    struct sigaction before {};
    REQUIRE(::sigaction(signal, &former, &before) == 0);
    former_calls = 0;
    {
      const StopSignals signals;
      CHECK(signals.received() == 0);
      ::raise(signal);
      CHECK(signals.received() == signal);
      CHECK(former_calls == 0);
    }
    ::raise(signal);
    CHECK(former_calls == 1);
    CHECK(StopSignals().received() == 0);
    ::sigaction(signal, &before, nullptr);
  }
}

TEST_CASE("a second instance is refused, and the first stays in effect") {
  const StopSignals signals;
  CHECK_THROWS_AS(StopSignals(), InternalError);
  ::raise(SIGTERM);
  CHECK(signals.received() == SIGTERM);
}

TEST_CASE("SIGHUP stays ignored where it is, as under nohup") {
  const auto former = ::signal(SIGHUP, SIG_IGN);
  {
    const StopSignals signals;
    ::raise(SIGHUP);
    CHECK(signals.received() == 0);
  }
  ::signal(SIGHUP, former);
}

TEST_CASE("the first signal is acknowledged on standard error, and a second ends the process") {
  const struct {
    std::vector<int> signals;
    int milliseconds;  // between two signals
    std::string line;
    int ends_by;  // 0: the process survives
  } cases[] = {{{SIGTERM, SIGTERM}, 300, "SIGTERM: saving; again to end at once\n", SIGTERM},
               {{SIGTERM, SIGINT}, 300, "SIGTERM: saving; again to end at once\n", SIGINT},
               {{SIGHUP, SIGHUP}, 300, "SIGHUP: saving; again to end at once\n", SIGHUP},
               {{SIGINT, SIGINT, SIGINT}, 0, "SIGINT: saving; again to end at once\n", 0},
               {{SIGUSR1, SIGTERM}, 300, "SIGUSR1: saving; again to end at once\n", 0},
               {{SIGXCPU, SIGXCPU}, 300, "SIGXCPU: saving; again to end at once\n", 0}};
  for (const auto& one : cases) {
    int pipe[2];
    REQUIRE(::pipe(pipe) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::dup2(pipe[1], STDERR_FILENO);
      const StopSignals signals("saving");
      for (const int signal : one.signals) {
        ::raise(signal);
        ::usleep(static_cast<unsigned>(one.milliseconds) * 1000);
      }
      ::_exit(signals.received() == one.signals[0] ? 0 : 1);
    }
    ::close(pipe[1]);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    std::array<char, 256> text;
    const ssize_t size = ::read(pipe[0], text.data(), text.size());
    ::close(pipe[0]);
    CAPTURE(one.line);
    CHECK(std::string(text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))) ==
          one.line);
    if (one.ends_by != 0) {
      CHECK((WIFSIGNALED(status) && WTERMSIG(status) == one.ends_by));
    } else {
      CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
    }
  }
}

TEST_CASE("names and exit codes") {
  CHECK(signal_name(SIGTERM) == std::string("SIGTERM"));
  CHECK(signal_name(SIGUSR1) == std::string("SIGUSR1"));
  CHECK(exit_code_of_signal(SIGINT) == 130);
}
