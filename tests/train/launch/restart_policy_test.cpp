#include "train/launch/restart_policy.h"

#include <doctest/doctest.h>

using namespace smoe;

TEST_CASE("the reason is empty when restarts are disabled") {
  RestartPolicy policy(0, nullptr);
  policy.before_start();
  const auto decision = policy.after_failure(1);
  CHECK_FALSE(decision.restarts);
  CHECK(decision.reason == "");
}

TEST_CASE("before the first checkpoint there is one restart") {
  std::int64_t step = -1;
  RestartPolicy policy(3, [&] { return step; });
  policy.before_start();
  auto decision = policy.after_failure(137);
  CHECK(decision.restarts);
  CHECK(
      decision.reason ==
      "restarting all ranks from the beginning, since there is no checkpoint yet, restart 1 of 3");
  policy.before_start();
  decision = policy.after_failure(137);
  CHECK_FALSE(decision.restarts);
  CHECK(decision.reason == "not restarted: no new checkpoint was saved since the last start");
}

TEST_CASE("by default there is one restart, before the first checkpoint only") {
  std::int64_t step = -1;
  RestartPolicy policy(std::nullopt, [&] { return step; });
  policy.before_start();
  const auto decision = policy.after_failure(137);
  CHECK(decision.restarts);
  CHECK(
      decision.reason ==
      "restarting all ranks from the beginning, since there is no checkpoint yet, restart 1 of 1");
  policy.before_start();
  CHECK(policy.after_failure(137).reason == "not restarted: that was restart 1 of 1");

  step = 40;
  RestartPolicy resumed(std::nullopt, [&] { return step; });
  resumed.before_start();
  step = 80;
  CHECK_FALSE(resumed.after_failure(137).restarts);
  CHECK(resumed.after_failure(137).reason == "");
  RestartPolicy unknown(std::nullopt, nullptr);
  unknown.before_start();
  CHECK_FALSE(unknown.after_failure(137).restarts);
}

TEST_CASE("a restart requires a newer checkpoint") {
  std::int64_t step = -1;
  RestartPolicy policy(3, [&] { return step; });
  policy.before_start();
  step = 0;  // a checkpoint of step 0 counts
  auto decision = policy.after_failure(137);
  CHECK(decision.restarts);
  CHECK(decision.reason == "restarting all ranks from the checkpoint of step 0, restart 1 of 3");
  policy.before_start();
  step = 40;
  CHECK(policy.after_failure(1).restarts);
  policy.before_start();
  decision = policy.after_failure(1);
  CHECK_FALSE(decision.restarts);
  CHECK(decision.reason == "not restarted: no new checkpoint was saved since the last start");
}

TEST_CASE("the number of restarts is bounded, and usage errors are not retried") {
  std::int64_t step = 0;
  RestartPolicy policy(2, [&] { return ++step; });
  for (int i = 0; i < 2; ++i) {
    policy.before_start();
    CHECK(policy.after_failure(1).restarts);
  }
  policy.before_start();
  CHECK(policy.after_failure(1).reason == "not restarted: that was restart 2 of 2");
  RestartPolicy once(1, [&] { return ++step; });
  once.before_start();
  CHECK_FALSE(once.after_failure(2).restarts);
}
