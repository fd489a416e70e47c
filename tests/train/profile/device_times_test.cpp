#include "train/profile/device_times.h"

#include <doctest/doctest.h>

#include "tests/support/text.h"
#include "train/profile/profile_text.h"

using namespace smoe;
using namespace smoe::test;

namespace {

constexpr int kNone = -1;

DeviceSample kernel(double begin, double end, int launch) {
  return {.name = "kernel", .begin = begin, .end = end, .launch = launch};
}

// One step of [0, 10] ms with launches that take no time on the host.
Recording recorded(int num_launches, std::vector<DeviceSample> device) {
  Recording r;
  r.steps = {{.host_begin = 0, .host_end = 10, .begin = 0, .end = 10}};
  for (int i = 0; i < num_launches; ++i)
    r.launches.push_back(
        {.name = "gemm", .place = {.phase = Phase::forward}, .cost = {.flops = 1, .bytes = 1}});
  add_device_times(std::move(device), r);
  return r;
}

std::vector<double> busy_of(const Recording& r) {
  std::vector<double> all;
  for (const LaunchSample& launch : r.launches) all.push_back(launch.busy);
  return all;
}

Profile analyzed(const Recording& r) {
  Profile p;
  p.mode = "cupti";
  analyze(r, p);
  return p;
}

}  // namespace

TEST_CASE("kernels that do not overlap count whole, and several of a launch together") {
  const Recording r = recorded(2, {kernel(0, 2, 0), kernel(3, 4, 0), kernel(5, 9, 1)});
  CHECK(busy_of(r) == std::vector<double>{3, 4});
  CHECK(r.launches[0].begin == 0);
  CHECK(r.launches[0].end == 4);
  const Profile p = analyzed(r);
  CHECK(p.overlap_ms == 0);
  CHECK(p.busy_ms == 7);
  CHECK(p.gap_ms == 3);
  CHECK(timing_sentence(p) == "");
}

TEST_CASE("where kernels overlap, the time counts for the one that began first") {
  const Recording r = recorded(2, {kernel(0, 4, 0), kernel(3, 9, 1)});
  CHECK(busy_of(r) == std::vector<double>{4, 5});
  CHECK(r.launches[1].begin == 3);
  const Profile p = analyzed(r);
  CHECK(p.overlap_ms == 1);
  CHECK(p.busy_ms + p.gap_ms == p.step_ms);
  REQUIRE(p.kernels.size() == 1);
  CHECK(p.kernels[0].ms == 9);
  CHECK(contains(timing_sentence(p), "kernels overlap for 1.00 ms per step"));
}

TEST_CASE("a kernel within another one counts nothing") {
  const Recording r = recorded(3, {kernel(0, 8, 0), kernel(2, 5, 1), kernel(7, 9, 2)});
  CHECK(busy_of(r) == std::vector<double>{8, 0, 1});
  const Profile p = analyzed(r);
  CHECK(p.busy_ms == 9);
  CHECK(p.gap_ms == 1);
}

TEST_CASE("three kernels in a chain cover their time once") {
  // The third begins while the first still runs.
  const Recording r = recorded(3, {kernel(1, 4, 0), kernel(2, 6, 1), kernel(3, 10, 2)});
  CHECK(busy_of(r) == std::vector<double>{3, 2, 4});
  const Profile p = analyzed(r);
  CHECK(p.busy_ms == 9);
  CHECK(p.busy_ms + p.gap_ms == p.step_ms);
  CHECK(p.overlap_ms == 2 + 3);
}

TEST_CASE("kernels of no launch run beside the others, and a launch may have none") {
  const Recording r = recorded(2, {kernel(0, 4, kNone), kernel(1, 3, 0), kernel(2, 5, 7)});
  CHECK(busy_of(r) == std::vector<double>{2, 0});
  CHECK(r.device[0].busy == 4);
  CHECK(r.device[2].busy == 3);
  CHECK(r.launches[1].begin == 3);
  CHECK(r.launches[1].end == 3);
}

TEST_CASE("of events a profile says what a launch takes, and that kernels do not overlap") {
  Profile p;
  p.launch_ms = 0.0045;
  CHECK(timing_sentence(p) ==
        "by events a launch of nothing takes 4.5 us, which is not in the kernels' times; kernels "
        "that "
        "overlap in other steps do not overlap here");
}
