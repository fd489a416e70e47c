#include "core/system/fault.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "core/base/check.h"

using namespace smoe;

TEST_CASE("a fault occurs at its site and call only") {
  const FaultScope scope("write:2:ENOSPC,fsync:1:EIO,read:2:short");
  CHECK(fault_point("write").error == 0);
  CHECK(fault_point("fsync").error == EIO);
  CHECK(fault_point("write").error == ENOSPC);
  CHECK(fault_point("write").error == 0);
  CHECK(fault_point("fsync").error == 0);
  CHECK_FALSE(fault_point("read").is_short);
  CHECK(fault_point("read").is_short);
  CHECK(scope.calls("write") == 3);
  CHECK(scope.calls("close") == 0);
  CHECK(scope.calls("*") == 7);
}

TEST_CASE("k+ fails all later calls, and * counts the calls at all sites") {
  const FaultScope scope("*:3+:EIO");
  CHECK(fault_point("a").error == 0);
  CHECK(fault_point("b").error == 0);
  CHECK(fault_point("c").error == EIO);
  CHECK(fault_point("a").error == EIO);
}

TEST_CASE("nothing fails without a scope and without SMOE_FAULT") {
  { const FaultScope scope("a:1:EIO"); }
  const Fault fault = fault_point("a");
  CHECK(fault.error == 0);
  CHECK_FALSE(fault.is_short);
}

TEST_CASE("kill ends the process at the call") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const FaultScope scope("a:2:kill");
    fault_point("a");
    fault_point("a");
    ::_exit(1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
}

TEST_CASE("invalid lists of faults are refused") {
  for (const char* text : {"a", "a:1", ":1:EIO", "a:0:EIO", "a:-1:EIO", "a:+:EIO", "a:1x:EIO",
                           "a:1:EWHAT", "a:1:", "a:1:EIO,b"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(FaultScope{text}, UsageError);
  }
}
