#include "train/profile/memory_timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace smoe {
namespace {

using Bytes = std::array<std::int64_t, kNumCategories>;

constexpr std::size_t kMaxPoints = 1000;

std::int64_t total_of(const Bytes& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0});
}

struct Lifetime {
  MemoryBlock block;
  double died_ms = std::nan("");
};

class Builder {
 public:
  Builder(const MemoryLog& log, std::int64_t begin_ns, std::int64_t end_ns) : end_ns_(end_ns) {
    begin_ns_ = log.events.empty() ? begin_ns : std::max(begin_ns, log.events.front().time_ns);
    rewind(log);
    replay(log);
  }

  MemoryTimeline take() {
    timeline_.duration_ms = ms(end_ns_);
    collect(peak_live_, timeline_.owners);
    std::map<std::uint64_t, MemoryBlock> kept;
    for (const auto& [id, block] : live_)
      if (block.category == Category::activations || block.category == Category::workspace)
        kept.emplace(id, block);
    collect(kept, timeline_.kept);
    thin();
    return std::move(timeline_);
  }

 private:
  double ms(std::int64_t time_ns) const { return static_cast<double>(time_ns - begin_ns_) / 1e6; }

  // The blocks that lived when the window began.
  void rewind(const MemoryLog& log) {
    for (const MemoryBlock& block : log.live) live_.emplace(block.id, block);
    for (auto event = log.events.rbegin(); event != log.events.rend(); ++event) {
      if (event->time_ns < begin_ns_) break;
      if (event->is_free)
        live_.emplace(event->block.id, event->block);
      else
        live_.erase(event->block.id);
    }
  }

  void replay(const MemoryLog& log) {
    Bytes bytes{};
    for (const auto& [id, block] : live_) bytes[static_cast<int>(block.category)] += block.bytes;
    peak_live_ = live_;
    timeline_.peak_bytes = total_of(bytes);
    timeline_.at_peak = bytes;
    timeline_.points.push_back({0, bytes});
    bool is_peak_current = true;  // peak_live_ is up to date
    for (const MemoryEvent& event : log.events) {
      if (event.time_ns < begin_ns_) continue;
      if (event.time_ns > end_ns_) break;
      if (event.is_free && !is_peak_current && total_of(bytes) == timeline_.peak_bytes) {
        peak_live_ = live_;  // the last moment before it shrinks
        is_peak_current = true;
      }
      apply(event, bytes);
      timeline_.points.push_back({ms(event.time_ns), bytes});
      if (total_of(bytes) <= timeline_.peak_bytes) continue;
      timeline_.peak_bytes = total_of(bytes);
      timeline_.peak_ms = ms(event.time_ns);
      timeline_.at_peak = bytes;
      is_peak_current = false;
    }
    if (!is_peak_current) peak_live_ = live_;
    timeline_.points.push_back({ms(end_ns_), bytes});
  }

  void apply(const MemoryEvent& event, Bytes& bytes) {
    const MemoryBlock& block = event.block;
    bytes[static_cast<int>(block.category)] += event.is_free ? -block.bytes : block.bytes;
    if (event.is_free) {
      live_.erase(block.id);
      deaths_[block.id] = ms(event.time_ns);
    } else {
      live_.emplace(block.id, block);
    }
  }

  // Blocks by owner, largest first.
  void collect(const std::map<std::uint64_t, MemoryBlock>& blocks,
               std::vector<OwnedBlocks>& out) const {
    std::map<std::pair<std::string, Category>, OwnedBlocks> by_owner;
    for (const auto& [id, block] : blocks) {
      const std::string owner = describe(block.born);
      OwnedBlocks& owned = by_owner[{owner, block.category}];
      if (owned.count++ == 0) {
        const auto death = deaths_.find(id);
        owned.owner = owner;
        owned.category = block.category;
        owned.born_ms = ms(block.born_ns);
        owned.died_ms = death == deaths_.end() ? std::nan("") : death->second;
      }
      owned.bytes += block.bytes;
    }
    for (auto& [key, owned] : by_owner) out.push_back(std::move(owned));
    std::stable_sort(out.begin(), out.end(),
                     [](const OwnedBlocks& a, const OwnedBlocks& b) { return a.bytes > b.bytes; });
  }

  // Keeps the point of the highest total of each slice of time.
  void thin() {
    auto& points = timeline_.points;
    if (points.size() <= kMaxPoints) return;
    std::vector<MemoryTimeline::Point> kept{points.front()};
    const double slice = std::max(timeline_.duration_ms, 1e-9) / kMaxPoints;
    double slice_end = slice;
    const MemoryTimeline::Point* best = nullptr;
    for (const auto& point : points) {
      if (point.ms > slice_end) {
        if (best) kept.push_back(*best);
        best = nullptr;
        slice_end = slice * (std::floor(point.ms / slice) + 1);
      }
      if (!best || total_of(point.bytes) > total_of(best->bytes)) best = &point;
    }
    if (best) kept.push_back(*best);
    kept.push_back(points.back());
    points = std::move(kept);
  }

  std::int64_t begin_ns_, end_ns_;
  MemoryTimeline timeline_;
  std::map<std::uint64_t, MemoryBlock> live_, peak_live_;
  std::map<std::uint64_t, double> deaths_;
};

}  // namespace

std::string describe(const Place& place) {
  std::string text = place.op ? place.op : "";
  const auto append = [&](const std::string& more) { text += (text.empty() ? "" : " · ") + more; };
  if (place.part) append(place.part);
  if (place.phase != Phase::none || text.empty())
    append(place.phase == Phase::none ? "outside a step" : name_of(place.phase));
  if (place.layer >= 0) append(fmt::format("layer {}", place.layer));
  return text;
}

MemoryTimeline memory_timeline(const MemoryLog& log, std::int64_t begin_ns, std::int64_t end_ns) {
  return Builder(log, begin_ns, end_ns).take();
}

std::int64_t last_step_begin(const MemoryLog& log, std::int64_t end_ns) {
  std::int64_t begin = log.events.empty() ? end_ns : log.events.front().time_ns;
  Phase last = Phase::none;
  for (const MemoryEvent& event : log.events) {
    if (event.time_ns > end_ns) break;
    const bool begins = event.place.phase == Phase::data || event.place.phase == Phase::forward;
    if (begins && (last == Phase::clip || last == Phase::losses || last == Phase::optimizer))
      begin = event.time_ns;
    if (event.place.phase != Phase::none) last = event.place.phase;
  }
  return begin;
}

}  // namespace smoe
