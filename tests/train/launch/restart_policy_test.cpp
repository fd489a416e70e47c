#include "train/launch/restart_policy.h"

#include <doctest/doctest.h>

using namespace smoe;

TEST_CASE("without restarts nothing is said of them") {
  RestartPolicy policy(0, nullptr);
  policy.starting();
  const auto decision = policy.after_failure(1);
  CHECK_FALSE(decision.restarts);
  CHECK(decision.reason == "");
}

TEST_CASE("a start is worth repeating when it saved a newer checkpoint") {
  std::int64_t step = -1;
  RestartPolicy policy(3, [&] { return step; });
  policy.starting();
  step = 0;  // the checkpoint of step 0 is one
  auto decision = policy.after_failure(137);
  CHECK(decision.restarts);
  CHECK(decision.reason ==
        "starting all ranks again from the checkpoint of step 0, restart 1 of 3");
  policy.starting();
  step = 40;
  CHECK(policy.after_failure(1).restarts);
  policy.starting();
  decision = policy.after_failure(1);
  CHECK_FALSE(decision.restarts);
  CHECK(decision.reason == "not started again: no new checkpoint was saved since the last start");
}

TEST_CASE("the number of restarts is bounded, and wrong usage is not repeated") {
  std::int64_t step = 0;
  RestartPolicy policy(2, [&] { return ++step; });
  for (int i = 0; i < 2; ++i) {
    policy.starting();
    CHECK(policy.after_failure(1).restarts);
  }
  policy.starting();
  CHECK(policy.after_failure(1).reason == "not started again: that was restart 2 of 2");
  RestartPolicy once(1, [&] { return ++step; });
  once.starting();
  CHECK_FALSE(once.after_failure(2).restarts);
}
