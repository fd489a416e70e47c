#include "train/profile/trace_file.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/train/profile/trace_reader.h"

using namespace smoe;
using namespace smoe::test;

namespace {

Recording recording() {
  Recording r;
  r.steps = {{.host_begin = 0, .host_end = 10, .begin = 0, .end = 10}};
  r.ranges = {{{.phase = Phase::forward, .layer = 0, .op = "inner \"quoted\"\n\xff"}, 1.0, 2.0},
              {{.phase = Phase::forward, .layer = 0}, 0.5, 4.0},
              {{.phase = Phase::backward}, 4.0, 9.0}};
  r.waits = {{{.phase = Phase::losses}, 0, 9.0, 9.5}};
  r.communication = {{.operation = "all_reduce",
                      .place = {.phase = Phase::backward},
                      .bytes = 1 << 20,
                      .ready = 4.5,
                      .begin = 5,
                      .end = 7}};
  const LaunchSample first{.name = "gemm",
                           .place = {.phase = Phase::forward},
                           .cost = {},
                           .begin = 1.0,
                           .end = 2.0000004,
                           .busy = 1};
  LaunchSample second = first;
  second.begin = 2.0000001;  // overlaps the first by less than a nanosecond
  second.end = 3;
  r.launches = {first, second};
  return r;
}

}  // namespace

TEST_CASE("a strict reader accepts the trace; its events are in order and nest") {
  MemoryTimeline memory;
  memory.points = {{0.0, {1, 2, 3, 4, 5}}, {1.5, {1, 2, 3, 9, 5}}};
  const std::string text = trace_json(recording(), memory, "device \"0\"");
  const nlohmann::json trace = nlohmann::json::parse(gunzipped(gzipped(text)));
  std::size_t num_events = 0, num_counters = 0;
  for (const auto& [track, events] : traced_events(trace)) num_events += events.size();
  for (const auto& event : trace.at("traceEvents")) num_counters += event.at("ph") == "C";
  CHECK(num_events == 1 + 3 + 1 + 2 + 1);
  CHECK(num_counters == 2);
}
