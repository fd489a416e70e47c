#include "core/host_wait.h"

#include <doctest/doctest.h>

#include <stdexcept>

using namespace smoe;

TEST_CASE("a host wait asks the innermost scope of its thread until it is done") {
  int outer = 0, inner = 0, left = 5;
  const auto is_done = [&] { return --left == 0; };
  wait_on_host([] { return true; });
  CHECK_FALSE(has_host_wait_check());
  const HostWaitScope outer_scope([&] { ++outer; });
  CHECK(has_host_wait_check());
  {
    const HostWaitScope inner_scope([&] { ++inner; });
    wait_on_host(is_done);
  }
  CHECK(outer == 0);
  CHECK(inner == 4);
  left = 3;
  wait_on_host(is_done);
  CHECK(outer == 2);
}

TEST_CASE("what a scope's check throws ends the wait") {
  int asked = 0;
  const HostWaitScope scope([&] {
    if (++asked == 1000) throw std::runtime_error("lost");
  });
  CHECK_THROWS_WITH_AS(wait_on_host([] { return false; }), "lost", std::runtime_error);
}
