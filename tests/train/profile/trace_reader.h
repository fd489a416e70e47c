// Reads a profile's trace as strictly as its format allows.
#pragma once
#include <doctest/doctest.h>
#include <zlib.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace smoe::test {

inline std::string gunzipped(const std::string& bytes) {
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

/// One event with a duration, in microseconds.
struct TracedEvent {
  std::string name, category;
  double begin, end;
};

/// The events with durations of each (process, thread). Fails the test unless on each track they
/// are in order of their begins, nest, and last no negative time.
inline std::map<std::pair<int, int>, std::vector<TracedEvent>> traced_events(
    const nlohmann::json& trace) {
  constexpr double kRounding = 1e-6;
  std::map<std::pair<int, int>, std::vector<TracedEvent>> tracks;
  std::map<std::pair<int, int>, std::vector<double>> open;  // ends of the enclosing events
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    const std::pair<int, int> track{event.at("pid"), event.at("tid")};
    const double begin = event.at("ts"), duration = event.at("dur");
    CHECK(duration >= 0);
    auto& events = tracks[track];
    if (!events.empty()) CHECK(begin >= events.back().begin);
    auto& ends = open[track];
    while (!ends.empty() && ends.back() <= begin + kRounding) ends.pop_back();
    if (!ends.empty()) CHECK(begin + duration <= ends.back() + kRounding);
    ends.push_back(begin + duration);
    events.push_back({event.at("name"), event.at("cat"), begin, begin + duration});
  }
  return tracks;
}

}  // namespace smoe::test
