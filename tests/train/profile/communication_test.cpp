#include "train/profile/communication.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/support/ranks.h"
#include "tests/support/text.h"
#include "train/profile/profile_page.h"
#include "train/profile/profile_text.h"

using namespace smoe;
using namespace smoe::test;

namespace {

LaunchSample kernel_at(int step, double begin, double end) {
  return {.name = "gemm",
          .place = {.phase = Phase::backward},
          .cost = {},
          .step = step,
          .host_begin = begin,
          .host_end = end,
          .begin = begin,
          .end = end,
          .busy = end - begin};
}

// Two steps of 10 ms, each with kernels in [0, 4] and [6, 9] ms.
Recording two_steps() {
  Recording r;
  r.steps = {{.host_begin = 0, .host_end = 10, .begin = 0, .end = 10},
             {.host_begin = 10, .host_end = 20, .begin = 10, .end = 20}};
  for (int step = 0; step < 2; ++step)
    for (const auto& [begin, end] : {std::pair{0.0, 4.0}, std::pair{6.0, 9.0}})
      r.launches.push_back(kernel_at(step, 10 * step + begin, 10 * step + end));
  return r;
}

CollectiveTimes operation_at(const char* name, double ready, double begin, double end) {
  const auto ns = [](double ms) { return static_cast<std::int64_t>(1e6 * ms) + 1000; };
  return {.name = name,
          .bytes = 1'000'000,
          .place = {.phase = Phase::backward},
          .start_ns = ns(ready),
          .ready_ns = ns(ready),
          .begin_ns = ns(begin),
          .end_ns = ns(end)};
}

Profile analyzed(Recording& recording, const std::vector<CollectiveTimes>& times) {
  recording.begin_ns = 1000;
  add_communication(times, recording);
  Profile profile;
  profile.num_ranks = 2;
  analyze(recording, profile);
  return profile;
}

}  // namespace

TEST_CASE("communication is exposed where no kernel runs, and hidden elsewhere") {
  Recording recording = two_steps();
  // In each step: [3, 7], of which [4, 6] has no kernel, and [7, 8], which kernels hide.
  const Profile p =
      analyzed(recording,
               {operation_at("all_reduce", 2, 3, 7), operation_at("all_gather", 2.5, 7, 8),
                operation_at("all_reduce", 12, 13, 17), operation_at("all_gather", 12.5, 17, 18)});
  CHECK(p.communication_ms == doctest::Approx(5));
  CHECK(p.exposed_ms == doctest::Approx(2));
  CHECK(p.gap_ms == doctest::Approx(3));
  CHECK(p.host_late_ms == doctest::Approx(0.5));  // of the 1 ms between the steps
  REQUIRE(p.communication.size() == 2);
  const CommunicationGroup& reduce = p.communication[0];
  CHECK(reduce.operation == "all_reduce");
  CHECK(reduce.phase == Phase::backward);
  CHECK(reduce.ready_ms == doctest::Approx(2));
  CHECK(reduce.begin_ms == doctest::Approx(3));
  CHECK(reduce.ms == doctest::Approx(4));
  CHECK(reduce.exposed_ms == doctest::Approx(2));
  // Of two ranks each sends the whole tensor once, half of it reduced.
  CHECK(reduce.bytes_per_s == doctest::Approx(1e6 / 4e-3));
  CHECK(p.communication[1].exposed_ms == doctest::Approx(0));
  CHECK(p.communication[1].bytes_per_s == doctest::Approx(0.5e6 / 1e-3));
  double parts = 0;
  for (const auto& [name, ms] : parts_of_step(p)) parts += ms;
  CHECK(parts == doctest::Approx(p.step_ms));
}

TEST_CASE("an operation belongs to the step that started it, however late the device is") {
  Recording recording = two_steps();
  // The device is 11 ms behind the host and the last operation of a step, whose data are of no
  // device, is done at once.
  std::vector<CollectiveTimes> times;
  for (const double step : {0.0, 10.0}) {
    times.push_back(operation_at("reduce_scatter", step + 12, step + 12, step + 13));
    times.back().start_ns -= 11'000'000;
  }
  for (const double step : {0.0, 10.0})
    times.push_back(operation_at("all_reduce", step + 2, step + 2, step + 3));
  const Profile p = analyzed(recording, times);
  REQUIRE(p.communication.size() == 2);
  CHECK(p.communication[0].operation == "reduce_scatter");
  CHECK(p.communication[0].begin_ms == doctest::Approx(12));
  CHECK(p.communication[1].operation == "all_reduce");
  CHECK(p.communication[1].begin_ms == doctest::Approx(2));
}

TEST_CASE("what runs beyond the window's end is not called exposed") {
  Recording recording = two_steps();
  const Profile p = analyzed(recording, {operation_at("all_gather", 19, 19, 40)});
  CHECK(p.exposed_ms == doctest::Approx(0.5));  // 1 ms in the second of two steps
  REQUIRE(p.communication.size() == 1);
  CHECK(p.communication[0].ms == doctest::Approx(21));
  CHECK(p.communication[0].begin_ms == doctest::Approx(9));
}

TEST_CASE("a planted fault is found: a kernel whose tiles wait for the SMs of an operation") {
  // Per step two equal kernels; the second runs beside an operation and takes twice as long, as one
  // with a static schedule does when half of its tiles wait.
  const auto profile_of = [](double beside_ms) {
    Recording recording = two_steps();
    recording.launches.clear();
    std::vector<CollectiveTimes> operations;
    for (int step = 0; step < 2; ++step) {
      const double begin = 10 * step;
      for (const auto& [from, to] : {std::pair{0.0, 3.0}, std::pair{3.0, 3.0 + beside_ms}}) {
        LaunchSample launch = kernel_at(step, begin + from, begin + to);
        launch.cost = {.flops = 3e9, .bytes = 0};
        recording.launches.push_back(launch);
      }
      operations.push_back(operation_at("all_reduce", begin + 2.5, begin + 2.5, begin + 9.5));
    }
    recording.begin_ns = 1000;
    add_communication(operations, recording);
    Profile p;
    p.mode = "events";
    p.num_ranks = 2;
    p.roofline = {.flops_per_s = 1e12, .bytes_per_s = 1e12};
    analyze(recording, p);
    advise(p);
    return p;
  };
  const Profile slow = profile_of(6);
  REQUIRE(slow.ops.size() == 1);
  CHECK(slow.ops[0].beside.launches == doctest::Approx(1));
  CHECK(slow.ops[0].slowdown() == doctest::Approx(2));
  CHECK(slow.ops[0].slowdown_ms() == doctest::Approx(3));
  const auto is_found = [](const Profile& p) {
    return std::any_of(p.advice.begin(), p.advice.end(), [](const Advice& advice) {
      return contains(advice.text, "takes 2.00 times as long beside communication");
    });
  };
  CHECK(is_found(slow));
  CHECK(contains(profile_page(slow, {}, ""), "Kernels beside communication"));
  const Profile equal = profile_of(3);
  CHECK(equal.ops[0].slowdown() == doctest::Approx(1));
  CHECK(!is_found(equal));
}

TEST_CASE("an idle device that waits for other ranks is not waiting for the host") {
  Recording recording = two_steps();
  for (LaunchSample& launch : recording.launches) launch.host_end = launch.end;
  const Profile p = analyzed(recording, {operation_at("all_reduce", 4, 4, 6)});
  // Gaps of 2, 1 and 2 ms before launches, of which the operation covers the first.
  CHECK(p.host_late_ms == doctest::Approx(1.5));
  REQUIRE(p.gaps.size() == 3);
  CHECK(p.gaps[0].is_for_ranks());
  CHECK(p.gaps[0].operation_ms == doctest::Approx(2));
  CHECK(!p.gaps[1].is_for_ranks());
}

TEST_CASE("ranks learn each other's times, and which of them was ready last") {
  on_ranks(2, [](Communicator& communicator, RendezvousStore&) {
    const int rank = communicator.rank();
    Recording recording = two_steps();
    // Rank 1 is ready 2 ms later; the operation ends on both at once.
    Profile p = analyzed(recording, {operation_at("all_reduce", 3 + 2 * rank, 5, 7)});
    gather_ranks(communicator, p);
    REQUIRE(p.ranks.size() == 2);
    CHECK(p.ranks[1].rank == 1);
    CHECK(p.ranks[1].step_ms == doctest::Approx(10));
    CHECK(p.ranks[0].hidden_share() == doctest::Approx(0.5));
    REQUIRE(p.communication.size() == 1);
    CHECK(p.communication[0].last_rank == 1);
    CHECK(p.communication[0].late_ms == doctest::Approx(2));
    CHECK(contains(profile_text(p, {}), "50 % hidden"));
  });
}

TEST_CASE("ranks that started other operations are refused") {
  on_ranks(2, [](Communicator& communicator, RendezvousStore&) {
    Recording recording = two_steps();
    std::vector<CollectiveTimes> times{operation_at("all_reduce", 3, 5, 7)};
    if (communicator.rank() == 1) times.push_back(operation_at("all_gather", 4, 7, 8));
    Profile p = analyzed(recording, times);
    CHECK_THROWS_WITH_AS(
        gather_ranks(communicator, p),
        "profile: the ranks must start the same operations in a step; rank 0 started 1, rank 1 2",
        SystemError);
  });
}
