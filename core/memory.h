// Memory of tensors: the one place that allocates, and the accounting of it by device and category.
// Freed blocks are kept for later requests, since a training step asks for the same sizes over and
// over; the accounting counts what tensors hold, to the byte, and not what is kept.
#pragma once
#include <array>
#include <cstdint>

#include "core/device.h"

namespace smoe {

/// What a block of memory is for.
enum class Category : std::uint8_t { parameters, gradients, optimizer, activations, workspace };
inline constexpr int kNumCategories = 5;

/// "parameters", "gradients", ...
const char* name_of(Category category);

struct MemoryUse {
  std::int64_t now_bytes = 0;
  std::int64_t peak_bytes = 0;
};

/// Bytes that tensors of one category hold now, and at most since the last reset, on the current
/// stream's device, as all of these functions.
MemoryUse memory_use(Category category);
/// The same over all categories; its peak is the peak of the sum, not the sum of the peaks.
MemoryUse memory_use();
/// What the sum's peak consisted of: bytes of each category at that moment, by Category.
std::array<std::int64_t, kNumCategories> memory_at_peak();
/// Makes the present use the peak, for every category and the sum.
void reset_peak_memory();
/// Gives blocks kept for reuse back to the system.
void release_cached_memory();

/// While on, new blocks are filled with 0xFF bytes, a NaN in every floating type, so that a kernel
/// that leaves an element unwritten or reads one too early is seen. For tests.
void set_poison_new_memory(bool on);

/// A block of memory, shared by the tensors that view it. Not copyable. On a GPU it belongs to a
/// stream: work queued there may use it at once and until it is destroyed; work on another stream
/// must be ordered after the one and before the other by events.
class Storage {
 public:
  /// Throws: SystemError when there is no memory left; names bytes, category, free bytes and uses.
  Storage(std::int64_t bytes, Category category, const Stream& stream);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  Category category() const { return category_; }
  Device device() const { return stream_.device(); }
  /// The stream it was allocated on and is freed on.
  const Stream& stream() const { return stream_; }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_;
  Category category_;
  Stream stream_;
};

}  // namespace smoe
