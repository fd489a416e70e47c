#include "train/profile/trace_file.h"

#include <doctest/doctest.h>
#include <zlib.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>

using namespace smoe;

namespace {

std::string gunzipped(const std::string& bytes) {
  std::string out(bytes.size() * 100 + 1000, '\0');
  z_stream stream{};
  REQUIRE(inflateInit2(&stream, 15 + 16) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

Recording recording() {
  Recording r;
  r.steps = {{.host_begin = 0, .host_end = 10, .begin = 0, .end = 10}};
  r.ranges = {{{.phase = Phase::forward, .layer = 0, .op = "inner \"quoted\"\n\xff"}, 1.0, 2.0},
              {{.phase = Phase::forward, .layer = 0}, 0.5, 4.0},
              {{.phase = Phase::backward}, 4.0, 9.0}};
  r.waits = {{{.phase = Phase::losses}, 0, 9.0, 9.5}};
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
  std::map<std::pair<int, int>, std::vector<double>> open;  // ends of the enclosing events
  std::map<std::pair<int, int>, double> last;
  int num_events = 0, num_counters = 0;
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") == "C") ++num_counters;
    if (event.at("ph") != "X") continue;
    ++num_events;
    const std::pair<int, int> track{event.at("pid"), event.at("tid")};
    const double begin = event.at("ts"), duration = event.at("dur");
    CHECK(duration >= 0);
    CHECK(begin >= last[track]);
    last[track] = begin;
    auto& ends = open[track];
    while (!ends.empty() && ends.back() <= begin + 1e-6) ends.pop_back();
    if (!ends.empty()) CHECK(begin + duration <= ends.back() + 1e-6);
    ends.push_back(begin + duration);
  }
  CHECK(num_events == 1 + 3 + 1 + 2);
  CHECK(num_counters == 2);
}
