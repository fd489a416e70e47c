#include "train/signals.h"

#include <doctest/doctest.h>
#include <signal.h>

#include <string>

#include "core/base/check.h"

using namespace smoe;

namespace {

volatile sig_atomic_t former_calls = 0;
void count_call(int) {
  former_calls = former_calls + 1;
}

}  // namespace

TEST_CASE(
    "the three signals set a flag during the object's lifetime; former actions are restored") {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
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

TEST_CASE("names and exit codes") {
  CHECK(signal_name(SIGTERM) == std::string("SIGTERM"));
  CHECK(signal_name(SIGUSR1) == std::string("SIGUSR1"));
  CHECK(exit_code_of_signal(SIGINT) == 130);
}
