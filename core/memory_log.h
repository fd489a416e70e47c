// The memory log: the last allocations and frees of tensor memory, and all blocks that live, each
// with the place in the training step and the op that allocated it. Always on; it costs about 2 MB
// and some 100 ns per block.
#pragma once
#include <cstdint>
#include <vector>

#include "core/base/instrument.h"
#include "core/memory.h"

namespace smoe {

/// A block of tensor memory.
struct MemoryBlock {
  std::uint64_t id = 0;  ///< ascending in order of allocation
  std::int64_t bytes = 0;
  Category category = Category::activations;
  Device device;
  std::int64_t born_ns = 0;  ///< steady clock
  Place born;                ///< where it was allocated
};

/// An allocation, or a free.
struct MemoryEvent {
  std::int64_t time_ns = 0;  ///< steady clock
  bool is_free = false;
  MemoryBlock block;
  Place place;  ///< where it happened; `block.born` for an allocation
};

struct MemoryLog {
  std::vector<MemoryEvent> events;  ///< the last ones, oldest first
  std::vector<MemoryBlock> live;    ///< in order of allocation
};

/// A copy of the log of one device.
MemoryLog memory_log(Device device);

/// Names the owner of the blocks that this thread allocated at its current place since the last
/// call or change of place. For forward ops, whose name is known when they end.
void name_new_blocks(const char* op, const char* part);

inline constexpr std::size_t kMemoryLogCapacity = 20'000;
/// How many events are kept, kMemoryLogCapacity unless set. Forgets earlier ones.
void set_memory_log_capacity(std::size_t num_events);

/// Called by Storage.
void log_allocation(const void* data, std::int64_t bytes, Category category, Device device);
void log_free(const void* data);

}  // namespace smoe
