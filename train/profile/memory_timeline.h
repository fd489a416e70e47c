// MemoryTimeline: the memory of tensors over a window, by category, and the blocks that live at its
// peak with their owners.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "core/memory_log.h"

namespace smoe {

/// A block, or several of equal owners.
struct OwnedBlocks {
  std::string owner;  ///< "moe_mlp · block_sparse_moe.w1 · forward · layer 3"
  Category category = Category::activations;
  std::int64_t bytes = 0;
  std::int64_t count = 0;
  double born_ms = 0, died_ms = 0;  ///< of the first; before the window: negative. NaN: lives on
};

struct MemoryTimeline {
  struct Point {
    double ms = 0;  ///< since the window began
    std::array<std::int64_t, kNumCategories> bytes{};
  };
  std::vector<Point> points;  ///< at most about 1,000, the peak among them
  double duration_ms = 0;
  double peak_ms = 0;
  std::int64_t peak_bytes = 0;
  std::array<std::int64_t, kNumCategories> at_peak{};
  std::vector<OwnedBlocks> owners;  ///< at the peak, largest first
  /// Activations and workspace that outlive the window, although they were allocated in it or
  /// before: what a step should have freed.
  std::vector<OwnedBlocks> kept;
};

/// The timeline between two times of the steady clock. Where the log does not reach back to the
/// begin, it begins with the log.
MemoryTimeline memory_timeline(const MemoryLog& log, std::int64_t begin_ns, std::int64_t end_ns);

/// The time at which the last step in the log begins, or its first event.
std::int64_t last_step_begin(const MemoryLog& log, std::int64_t end_ns);

/// "moe_mlp · block_sparse_moe.w1 · backward · layer 3".
std::string describe(const Place& place);

}  // namespace smoe
