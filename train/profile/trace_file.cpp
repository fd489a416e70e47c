#include "train/profile/trace_file.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/base/check.h"
#include "core/system/format.h"

namespace smoe {
namespace {

constexpr int kHost = 1, kDevice = 2, kRanks = 3;                      // processes of the trace
constexpr int kRanges = 1, kWaits = 2, kOperations = 1, kKernels = 3;  // threads

struct TraceEvent {
  std::string name, category;
  int process, thread;
  std::int64_t begin_ns, end_ns;
};

std::int64_t ns(double ms) {
  return std::llround(ms * 1e6);
}

std::string quoted(const std::string& text) {
  using nlohmann::json;
  return json(text).dump(-1, ' ', true, json::error_handler_t::replace);
}

std::string range_name(const Place& place) {
  std::string name = place.op ? place.op : name_of(place.phase);
  if (place.part) name += fmt::format(" {}", place.part);
  if (place.layer >= 0) name += fmt::format(" [{}]", place.layer);
  return name;
}

class Trace {
 public:
  void add(TraceEvent event) {
    if (event.end_ns < event.begin_ns) event.end_ns = event.begin_ns;
    events_.push_back(std::move(event));
  }

  // Events of one track, which must not overlap, in order of time: rounding may make them touch.
  void add_sequence(std::vector<TraceEvent> events) {
    std::stable_sort(events.begin(), events.end(), [](const TraceEvent& a, const TraceEvent& b) {
      return a.begin_ns < b.begin_ns;
    });
    std::map<int, std::int64_t> ends;
    for (TraceEvent& event : events) {
      std::int64_t& end = ends.try_emplace(event.thread, event.begin_ns).first->second;
      event.begin_ns = std::max(event.begin_ns, end);
      event.end_ns = std::max(event.end_ns, event.begin_ns);
      end = event.end_ns;
      add(event);
    }
  }

  std::string text(const MemoryTimeline& memory, const std::string& device) {
    std::stable_sort(events_.begin(), events_.end(), [](const TraceEvent& a, const TraceEvent& b) {
      return std::tuple(a.process, a.thread, a.begin_ns, -a.end_ns) <
             std::tuple(b.process, b.thread, b.begin_ns, -b.end_ns);
    });
    out_ = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
    add_name("process_name", kHost, 0, "host");
    add_name("thread_name", kHost, kRanges, "step");
    add_name("thread_name", kHost, kWaits, "waits for the device");
    add_name("process_name", kDevice, 0, device);
    add_name("process_name", kRanks, 0, "communication");
    for (const TraceEvent& event : events_)
      fmt::format_to(std::back_inserter(out_),
                     "{{\"ph\":\"X\",\"name\":{},\"cat\":{},\"pid\":{},\"tid\":{},\"ts\":{:.3f},"
                     "\"dur\":{:.3f}}},\n",
                     quoted(event.name), quoted(event.category), event.process, event.thread,
                     static_cast<double>(event.begin_ns) / 1e3,
                     static_cast<double>(event.end_ns - event.begin_ns) / 1e3);
    for (const MemoryTimeline::Point& point : memory.points) add_memory(point);
    out_.resize(out_.size() - 2);  // the last comma
    return std::move(out_) + "\n]}\n";
  }

 private:
  void add_name(const char* kind, int process, int thread, const std::string& name) {
    fmt::format_to(
        std::back_inserter(out_),
        "{{\"ph\":\"M\",\"name\":\"{}\",\"pid\":{},\"tid\":{},\"args\":{{\"name\":{}}}}},\n", kind,
        process, thread, quoted(name));
  }
  void add_memory(const MemoryTimeline::Point& point) {
    fmt::format_to(std::back_inserter(out_),
                   "{{\"ph\":\"C\",\"name\":\"memory\",\"pid\":{},\"ts\":{:.3f},\"args\":{{",
                   kDevice, 1e3 * point.ms);
    for (int c = 0; c < kNumCategories; ++c)
      fmt::format_to(std::back_inserter(out_), "{}\"{}\":{}", c > 0 ? "," : "",
                     name_of(static_cast<Category>(c)), point.bytes[c]);
    out_ += "}},\n";
  }

  std::vector<TraceEvent> events_;
  std::string out_;
};

}  // namespace

std::string trace_json(const Recording& recording, const MemoryTimeline& memory,
                       const std::string& device) {
  Trace trace;
  for (std::size_t i = 0; i < recording.steps.size(); ++i)
    trace.add({fmt::format("step {}", i + 1), "step", kHost, kRanges,
               ns(recording.steps[i].host_begin), ns(recording.steps[i].host_end)});
  for (const RangeSample& range : recording.ranges)
    trace.add({range_name(range.place), name_of(range.place.phase), kHost, kRanges, ns(range.begin),
               ns(range.end)});
  for (const WaitSample& wait : recording.waits)
    trace.add({range_name(wait.place), "wait", kHost, kWaits, ns(wait.begin), ns(wait.end)});
  std::vector<TraceEvent> kernels;
  for (const DeviceSample& sample : recording.device)
    kernels.push_back({sample.name, "kernel", kDevice, kKernels + sample.stream, ns(sample.begin),
                       ns(sample.end)});
  if (recording.device.empty())
    for (const LaunchSample& launch : recording.launches)
      kernels.push_back({fmt::format("{} {}", launch.name, range_name(launch.place)),
                         name_of(launch.place.phase), kDevice, kKernels, ns(launch.begin),
                         ns(launch.end)});
  trace.add_sequence(std::move(kernels));
  std::vector<TraceEvent> operations;
  for (const CommunicationSample& one : recording.communication)
    operations.push_back({fmt::format("{} {} ({})", one.operation, format_bytes(one.bytes),
                                      name_of(one.place.phase)),
                          "communication", kRanks, kOperations, ns(one.begin), ns(one.end)});
  trace.add_sequence(std::move(operations));
  return trace.text(memory, device);
}

std::string gzipped(const std::string& text) {
  constexpr int kGzip = 15 + 16, kMemoryLevel = 8;  // window bits plus gzip's header, see zlib.h
  z_stream stream{};
  SMOE_INTERNAL_CHECK(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzip, kMemoryLevel,
                                   Z_DEFAULT_STRATEGY) == Z_OK,
                      "trace: zlib cannot start");
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int result = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  SMOE_INTERNAL_CHECK(result == Z_STREAM_END, "trace: zlib ended with ", result);
  return out;
}

}  // namespace smoe
