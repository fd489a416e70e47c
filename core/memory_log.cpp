#include "core/memory_log.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <unordered_map>

#include "core/base/clock.h"

namespace smoe {
namespace {

struct LiveBlock {
  MemoryBlock block;
  std::size_t event;  // number of its allocation
};

// The blocks that a thread allocated at one place and that no op has claimed yet. An op has few;
// of more, the first ones stay unnamed.
struct NewBlocks {
  std::uint64_t place_changes = 0;
  std::size_t count = 0;
  std::array<const void*, 64> data;
};
thread_local NewBlocks new_blocks;

class Logger {
 public:
  // Intentionally leaked: tensors with static lifetime may be freed after static destructors.
  static Logger& get() {
    static Logger& logger = *new Logger;
    return logger;
  }

  void allocated(const void* data, std::int64_t bytes, Category category, Device device) {
    const std::lock_guard lock(mutex_);
    const MemoryBlock block{.id = ++last_id_,
                            .bytes = bytes,
                            .category = category,
                            .device = device,
                            .born_ns = now_ns(),
                            .born = current_place()};
    live_[data] = {block, num_events_};
    add({.time_ns = block.born_ns, .is_free = false, .block = block, .place = block.born});
  }

  void freed(const void* data) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(data);
    if (found == live_.end()) return;
    add({.time_ns = now_ns(),
         .is_free = true,
         .block = found->second.block,
         .place = current_place()});
    live_.erase(found);
  }

  void name(const NewBlocks& blocks, const char* op, const char* part) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < blocks.count; ++i) {
      const auto found = live_.find(blocks.data[i]);
      if (found == live_.end()) continue;
      auto& [block, event] = found->second;
      if (block.born.op) continue;
      block.born.op = op;
      block.born.part = part;
      if (num_events_ - event > capacity_ || event < first_event_) continue;
      MemoryEvent& logged = ring_[event % capacity_];
      logged.block.born = logged.place = block.born;
    }
  }

  void set_capacity(std::size_t num_events) {
    const std::lock_guard lock(mutex_);
    ring_ = std::vector<MemoryEvent>(num_events);  // now, not within a step that is measured
    capacity_ = num_events;
    first_event_ = num_events_;
  }

  MemoryLog of(Device device) {
    const std::lock_guard lock(mutex_);
    MemoryLog log;
    const std::size_t begin =
        std::max(first_event_, num_events_ > capacity_ ? num_events_ - capacity_ : 0);
    for (std::size_t i = begin; i < num_events_; ++i)
      if (const MemoryEvent& event = ring_[i % capacity_]; event.block.device == device)
        log.events.push_back(event);
    for (const auto& [data, live] : live_)
      if (live.block.device == device) log.live.push_back(live.block);
    std::sort(log.live.begin(), log.live.end(),
              [](const MemoryBlock& a, const MemoryBlock& b) { return a.id < b.id; });
    return log;
  }

 private:
  void add(const MemoryEvent& event) {
    if (ring_.empty()) ring_.resize(capacity_);
    ring_[num_events_ % capacity_] = event;
    ++num_events_;
  }

  std::mutex mutex_;
  std::unordered_map<const void*, LiveBlock> live_;
  std::vector<MemoryEvent> ring_;  // event i is at i % capacity_
  std::size_t capacity_ = kMemoryLogCapacity, num_events_ = 0, first_event_ = 0;
  std::uint64_t last_id_ = 0;
};

}  // namespace

void log_allocation(const void* data, std::int64_t bytes, Category category, Device device) {
  Logger::get().allocated(data, bytes, category, device);
  if (current_place().op) return;  // known already
  if (new_blocks.place_changes != num_place_changes())
    new_blocks = {.place_changes = num_place_changes(), .count = 0, .data = {}};
  if (new_blocks.count < new_blocks.data.size()) new_blocks.data[new_blocks.count++] = data;
}

void log_free(const void* data) {
  Logger::get().freed(data);
}

void name_new_blocks(const char* op, const char* part) {
  if (new_blocks.count == 0) return;
  if (new_blocks.place_changes == num_place_changes()) Logger::get().name(new_blocks, op, part);
  new_blocks.count = 0;
}

void set_memory_log_capacity(std::size_t num_events) {
  Logger::get().set_capacity(num_events);
}

MemoryLog memory_log(Device device) {
  return Logger::get().of(device);
}

}  // namespace smoe
